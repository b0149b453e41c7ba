import json
from contextlib import contextmanager

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.adaptation import build_generator
from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab import DCANHook
from dynbackbones.integrations.openmmlab.dcan.generator import GENERATOR
from tests.messages import naming

PLAIN = "mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py"
MMSEG_RESNET = {
    "type": "ResNet",
    "depth": 18,
    "strides": (1, 2, 1, 1),
    "dilations": (1, 1, 2, 4),
    "norm_cfg": {"type": "BN"},
    "_delete_": True,
}


class Spy(Hook):
    """Looks at inputs, features and parameters of training, and at metrics."""

    priority = "LOWEST"

    def __init__(self):
        self.outputs, self.metrics, self.inputs, self.decoders = [], [], [], []

    def before_train(self, runner):
        runner.model.backbone.register_forward_pre_hook(self.see)

    def see(self, backbone, inputs):
        if backbone.training:
            self.inputs.append(inputs[0].detach().clone())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.outputs.append({name: value.item() for name, value in outputs.items()})
        if hasattr(runner.model, GENERATOR):
            state = getattr(runner.model, GENERATOR).decoder.state_dict()
            self.decoders.append({key: value.clone() for key, value in state.items()})

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


def run(cfg):
    runner, spy = Runner.from_cfg(cfg), Spy()
    runner.register_hook(spy)
    runner.train()
    return runner, spy


def losses_of(output):
    return {name for name in output if "loss" in name and name != "loss"}


@pytest.mark.parametrize("backbone", ["ours", "mmseg"])
def test_training_with_both_levels(dcan_config, tmp_path, backbone):
    options = {"model__backbone": MMSEG_RESNET} if backbone == "mmseg" else {}
    cfg = dcan_config(picture_interval=2, **options)
    if backbone == "mmseg":
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type == "DCANHook"]
    runner, spy = run(cfg)
    for output in spy.outputs:
        names = losses_of(output)
        assert names == {
            "decode.loss_ce", "aux.loss_ce", "dcan.loss_content", "dcan.loss_style"
        }  # fmt: skip
        assert output["loss"] == pytest.approx(sum(output[name] for name in names), rel=1e-5)
    before = build_generator("small_vgg", weights=cfg.custom_hooks[-1].generator.weights).decoder
    assert any(
        not torch.equal(spy.decoders[-1][key], value) for key, value in before.state_dict().items()
    )
    assert len(list((tmp_path / "work").glob("*/vis_data/vis_image/dcan_*.png"))) == 1
    (file,) = (tmp_path / "work").glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert any("dcan.loss_style" in line for line in lines)


def test_pixel_level_only(dcan_config):
    cfg = dcan_config(align_after=None, train_cfg__max_iters=1)
    _, spy = run(cfg)
    assert losses_of(spy.outputs[0]) >= {"dcan.loss_content", "dcan.loss_style"}
    # What the network sees is what the generator makes.
    _, plain = run(dcan_config(hook=False, train_cfg__max_iters=1))
    assert spy.inputs[0].shape == plain.inputs[0].shape
    assert not torch.allclose(spy.inputs[0], plain.inputs[0], atol=0.1)


def test_feature_level_only(dcan_config, monkeypatch):
    seen = record_alignment(monkeypatch)
    runner, spy = run(dcan_config(generator=None, train_cfg__max_iters=1))
    assert not hasattr(runner.model, GENERATOR)
    assert losses_of(spy.outputs[0]) == {"decode.loss_ce", "aux.loss_ce"}
    assert seen == [("res3", (2, 3, 48, 64), None, (65, 65))]
    _, plain = run(dcan_config(hook=False, train_cfg__max_iters=1))
    torch.testing.assert_close(spy.inputs[0], plain.inputs[0])
    assert spy.outputs[0]["loss"] != plain.outputs[0]["loss"]


def record_alignment(monkeypatch):
    from dynbackbones.integrations.openmmlab.dcan import adaptation as dcan

    seen, aligned = [], dcan.aligned

    def record(network, name, targets, **sizes):
        seen.append((name, tuple(targets.shape), *sizes.values()))
        return aligned(network, name, targets, **sizes)

    monkeypatch.setattr(dcan, "aligned", record)
    return seen


@pytest.mark.parametrize("stage", ["res5", "layer1.0"])
def test_any_stage_is_aligned(dcan_config, monkeypatch, stage):
    seen = record_alignment(monkeypatch)
    cfg = dcan_config(align_after=stage, train_cfg__max_iters=1, model__backbone=MMSEG_RESNET)
    cfg.custom_hooks = cfg.custom_hooks[-1:]
    run(cfg)
    assert [name for name, *_ in seen] == [stage]


@pytest.mark.parametrize("count", [2, 4])
def test_several_targets_for_each_image(dcan_config, monkeypatch, count):
    seen = record_alignment(monkeypatch)
    cfg = dcan_config(num_targets=count, generator=None, train_cfg__max_iters=1)
    # Padded, so that the backbone and the alignment are told the sizes of images.
    cfg.model.data_preprocessor.size = (80, 96)
    _, spy = run(cfg)
    assert seen == [("res3", (2 * count, 3, 48, 64), [(65, 65)] * (2 * count), (80, 96))]
    assert len(spy.inputs[0]) == 2 * count
    # The same source image meets them one at a time.
    assert torch.equal(spy.inputs[0][0], spy.inputs[0][count - 1])
    assert not torch.equal(spy.inputs[0][0], spy.inputs[0][count])


def test_the_generator_may_see_enlarged_images(dcan_config, monkeypatch):
    from dynbackbones.adaptation import StyleGenerator

    seen, forward = [], StyleGenerator.forward

    def look(self, source, target):
        seen.append((tuple(source.shape), tuple(target.shape)))
        return forward(self, source, target)

    monkeypatch.setattr(StyleGenerator, "forward", look)
    _, spy = run(dcan_config(generator_scale=1.5, train_cfg__max_iters=1))
    assert seen == [((2, 3, 98, 98), (2, 3, 72, 96))]
    assert spy.inputs[0].shape == (2, 3, 65, 65)


def test_padding_of_source_images_does_not_count(dcan_config):
    """Images are drawn and aligned as if they were alone, whatever they are padded to."""

    def first(*size):
        cfg = dcan_config(train_cfg__max_iters=1)
        cfg.model.data_preprocessor.size = size
        cfg.model.backbone.norm_eval = True
        _, spy = run(cfg)
        return spy

    plain, padded = first(65, 65), first(129, 129)
    assert padded.inputs[0].shape == (2, 3, 129, 129)
    inside = padded.inputs[0][..., :65, :65]
    torch.testing.assert_close(inside, plain.inputs[0], rtol=1e-4, atol=1e-4)
    assert not padded.inputs[0][..., 65:, :].any()
    for name in ("dcan.loss_content", "dcan.loss_style"):
        assert padded.outputs[0][name] == pytest.approx(plain.outputs[0][name], rel=1e-4)


def test_layers_that_run_again_for_their_gradients_are_aligned_again(dcan_config):
    def gradient(**options):
        seen, cfg = [], dcan_config(train_cfg__max_iters=1)
        cfg.optim_wrapper.pop("clip_grad")
        cfg.model.backbone.norm_eval = True
        cfg.update(options)

        class Look(Hook):
            def before_train(self, runner):
                weight = runner.model.backbone.layer1[0].conv1.weight
                runner.optim_wrapper.optimizer.register_step_pre_hook(
                    lambda *args: seen.append(weight.grad.clone())
                )

        runner = Runner.from_cfg(cfg)
        runner.register_hook(Look())
        runner.train()
        return seen[0]

    plain, again = gradient(), gradient(activation_checkpointing=["backbone"])
    assert plain.abs().max() > 0
    torch.testing.assert_close(again, plain)


def test_a_run_by_epochs_with_a_short_last_batch_and_accumulated_steps(dcan_config):
    cfg = dcan_config(num_targets=2, optim_wrapper__accumulative_counts=2)
    data = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader = {
        "batch_size": 2,
        "num_workers": 0,
        "sampler": {"type": "SeededEpochSampler"},
        "dataset": {"type": "SeededDataset", "dataset": {**data, "indices": 3}},
    }
    cfg.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 2}
    cfg.param_scheduler = []
    _, spy = run(cfg)
    assert [len(images) for images in spy.inputs] == [4, 2, 4, 2]
    for first, last in ((0, 1), (2, 3)):
        # The generator moves with every second iteration.
        assert any(
            not torch.equal(value, spy.decoders[last][key])
            for key, value in spy.decoders[first].items()
        )
    assert all(torch.equal(value, spy.decoders[2][key]) for key, value in spy.decoders[1].items())


def test_mixed_precision(dcan_config):
    from mmengine.optim import OptimWrapper
    from mmengine.registry import OPTIM_WRAPPERS

    @OPTIM_WRAPPERS.register_module(force=True)
    class HalfOnCPU(OptimWrapper):
        # mmengine's own wants a GPU.
        @contextmanager
        def optim_context(self, model):
            with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
                yield

    _, full = run(dcan_config(train_cfg__max_iters=1))
    half_config = dcan_config(train_cfg__max_iters=2)
    half_config.optim_wrapper.type = "HalfOnCPU"
    _, half = run(half_config)
    assert half.inputs[0].dtype == torch.float32
    for name in losses_of(full.outputs[0]):
        assert half.outputs[0][name] == pytest.approx(full.outputs[0][name], rel=0.1)
        assert half.outputs[0][name] != full.outputs[0][name]
    assert any(
        not torch.equal(value, half.decoders[1][key]) for key, value in half.decoders[0].items()
    )


def test_two_stages(dcan_config, generator_file):
    before = build_generator("small_vgg", weights=generator_file).decoder.state_dict()
    options = {"end_to_end": False, "gen_loss_weight": 0}
    runner, spy = run(dcan_config(train_cfg__max_iters=1, **options))
    assert losses_of(spy.outputs[0]) == {"decode.loss_ce", "aux.loss_ce"}
    assert all(torch.equal(spy.decoders[-1][key], value) for key, value in before.items())
    # Nothing is trained, so the optimiser does not know it.
    trained = {id(p) for group in runner.optim_wrapper.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in getattr(runner.model, GENERATOR).parameters()}


def gradients_of_decoder(dcan_config, monkeypatch, **options):
    """Of the first step, before anything is clipped."""
    seen = []
    cfg = dcan_config(train_cfg__max_iters=1, **options)
    cfg.optim_wrapper.pop("clip_grad")

    def look(self, runner, batch_idx, data_batch=None):
        before(self, runner, batch_idx, data_batch)
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda optimizer, args, kwargs: seen.extend(
                p.grad.clone() for p in getattr(runner.model, GENERATOR).decoder.parameters()
            )
        )

    before = DCANHook.before_train_iter
    with monkeypatch.context() as patch:
        patch.setattr(DCANHook, "before_train_iter", look)
        run(cfg)
    return torch.cat([gradient.flatten() for gradient in seen])


def test_the_segmentors_loss_trains_the_generator_end_to_end_alone(dcan_config, monkeypatch):
    def gradients(**options):
        return gradients_of_decoder(dcan_config, monkeypatch, **options)

    both, own = gradients(), gradients(end_to_end=False)
    segmentation = gradients(gen_loss_weight=0)
    assert segmentation.abs().max() > 0
    torch.testing.assert_close(both, own + segmentation, rtol=1e-3, atol=1e-6)


def test_validation_is_that_of_the_plain_network(dcan_config, tool, tmp_path):
    _, adapted = run(dcan_config())
    checkpoint = tmp_path / "work" / "iter_2.pth"
    content = torch.load(checkpoint, weights_only=True)
    assert not any(key.startswith(GENERATOR) for key in content["state_dict"])
    assert (
        content[GENERATOR].keys()
        == build_generator("small_vgg", encoder_weights="random").state_dict().keys()
    )
    # Strict about the architecture, and the config has no hook.
    plain = dcan_config(hook=False)
    plain.dump(tmp_path / "plain.py")
    tool("test", tmp_path / "plain.py", checkpoint, "--work-dir", tmp_path / "tested")
    tested = json.loads((tmp_path / "tested" / "test_results.json").read_text())
    assert tested == adapted.metrics[-1]
    # The same weights with the hook in the config.
    dcan_config().dump(tmp_path / "dcan.py")
    tool("test", tmp_path / "dcan.py", checkpoint, "--work-dir", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "test_results.json").read_text()) == tested


def state_at_start(cfg):
    """Trains, and returns the weights that the model had before."""
    seen = []

    class Look(Hook):
        priority = "LOWEST"

        def before_train(self, runner):
            seen.append({k: v.clone() for k, v in runner.model.state_dict().items()})

    runner = Runner.from_cfg(cfg)
    runner.register_hook(Look())
    runner.train()
    return seen[0]


def test_a_plain_checkpoint_is_a_start(dcan_config, caplog):
    run(dcan_config(hook=False))
    path = dcan_config().work_dir + "/iter_2.pth"
    plain = torch.load(path, weights_only=True)["state_dict"]
    caplog.clear()
    start = state_at_start(dcan_config(load_from=path))
    assert all(torch.equal(start[key], value) for key, value in plain.items())
    assert "missing keys" not in caplog.text
    trained = build_generator(
        "small_vgg", weights=dcan_config().custom_hooks[-1].generator.weights
    ).state_dict()
    assert all(torch.equal(start[f"{GENERATOR}.{k}"], v) for k, v in trained.items())


def test_the_generator_is_that_of_the_config_when_a_run_starts(dcan_config, generator_file):
    run(dcan_config(gen_optim={"lr": 0.1}))
    path = dcan_config().work_dir + "/iter_2.pth"
    found = torch.load(path, weights_only=True)[GENERATOR]
    named = build_generator("small_vgg", weights=generator_file).state_dict()
    assert any(not torch.equal(found[key], value) for key, value in named.items())

    def start(**options):
        return state_at_start(dcan_config(load_from=path, train_cfg__max_iters=1, **options))

    state = start()
    assert all(torch.equal(state[f"{GENERATOR}.{k}"], value) for k, value in named.items())
    # Without a file of its own it goes on with that of the checkpoint.
    state = start(generator={"encoder": "small_vgg", "encoder_weights": "random"})
    assert all(torch.equal(state[f"{GENERATOR}.{k}"], value) for k, value in found.items())


def test_a_picture_of_before_and_after(dcan_config, tmp_path):
    import cv2

    from dynbackbones.cli import adaptation_pictures

    cfg = dcan_config(train_cfg__max_iters=2, default_hooks__checkpoint__interval=1)
    cfg.dump(tmp_path / "config.py")
    run(cfg)
    work = tmp_path / "work"
    arguments = [str(tmp_path / "config.py"), *(str(work / f"iter_{n}.pth") for n in (1, 2))]
    adaptation_pictures.main([*arguments, "--output", str(tmp_path / "new" / "both.png")])
    picture = cv2.imread(str(tmp_path / "new" / "both.png"))
    # Two images, each with four panels of 64 x 80 under a title.
    assert picture.shape == (2 * (64 + 22 + 2), 4 * (80 + 2), 3)
    other = dcan_config(hook=False, model__backbone__depth=34)
    other.dump(tmp_path / "other.py")
    with pytest.raises(UserError, match=naming(work / "iter_1.pth", "architecture")):
        adaptation_pictures.main([str(tmp_path / "other.py"), *arguments[1:]])
    with pytest.raises(UserError, match=naming("--num-images", 0)):
        adaptation_pictures.main([*arguments, "--num-images", "0"])
