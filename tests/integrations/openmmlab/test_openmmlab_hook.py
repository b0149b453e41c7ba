import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

import dynbackbones
from dynbackbones.integrations.openmmlab import DynamicBackboneHook
from tests.messages import naming

RATES = {f"activation_rate{part}" for part in ("", "_res2", "_res3", "_res4")}


class Spy(Hook):
    """Looks at what training sees, after DynamicBackboneHook."""

    priority = "LOWEST"

    def __init__(self):
        self.progress, self.outputs, self.metrics, self.macs = [], [], [], []

    def before_run(self, runner):
        runner.model.backbone.register_forward_hook(self.count)

    def count(self, backbone, inputs, output):
        if not backbone.training:
            self.macs.append(float(backbone.decisions.macs.sum()))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.progress.append(getattr(runner.model.backbone, "progress", None))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.outputs.append({name: value.item() for name, value in outputs.items()})

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


def run(cfg):
    runner, spy = Runner.from_cfg(cfg), Spy()
    runner.register_hook(spy)
    runner.train()
    return runner, spy


def test_training_by_iterations(tiny_config, tmp_path):
    options = {"train_cfg__max_iters": 4, "train_cfg__val_interval": 4}
    runner, spy = run(tiny_config(custom_hooks__0__selector_interval=2, **options))
    assert spy.progress == [0, 0.25, 0.5, 0.75]
    assert runner.model.backbone.progress == 1
    for outputs in spy.outputs:
        losses = ["decode.loss_ce", "aux.loss_ce", "loss_activation_rate"]
        assert outputs["loss"] == pytest.approx(sum(outputs[name] for name in losses), rel=1e-5)
    (metrics,) = spy.metrics
    assert {"mIoU", "gmacs"} | RATES <= set(metrics)
    assert metrics["gmacs"] == pytest.approx(sum(spy.macs) / 2 / 1e9)
    assert 0 < metrics["activation_rate"] <= 1

    (file,) = (tmp_path / "work").glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    training = [line for line in lines if "loss" in line]
    assert len(training) == 4
    sampled = {f"argmax_rate_res{stage}" for stage in (2, 3, 4)}
    assert all({"gmacs", *sampled} | RATES <= set(line) for line in training)
    selectors = [line for line in lines if any("selectors/" in key for key in line)]
    assert len(selectors) == 2
    assert "selectors/activation_rate_res4_block1" in selectors[0]
    assert any("mIoU" in line and "gmacs" in line for line in lines)


def test_training_by_epochs(tiny_config):
    cfg = tiny_config(custom_hooks__0__by_epoch=True)
    cfg.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 2, "val_interval": 2}
    cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader.sampler = {"type": "DefaultSampler", "shuffle": True}
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.update(by_epoch=True, interval=1)
    cfg.log_processor.by_epoch = True
    runner, spy = run(cfg)
    assert spy.progress == [0, 0, 0.5, 0.5]
    assert runner.model.backbone.progress == 1
    path = Path(runner.work_dir) / "epoch_1.pth"
    assert len(torch.load(path, weights_only=True)["random_states"]) == 1
    whole = spy.outputs

    resumed = cfg.copy()
    resumed.update(resume=True, load_from=str(path), experiment_name="resumed")
    torch.manual_seed(99)
    assert run(resumed)[1].outputs == whole[2:]


def test_macs_of_an_image_are_those_of_all_its_windows(tiny_config):
    test_cfg = {"mode": "slide", "crop_size": (48, 48), "stride": (32, 32)}
    _, spy = run(tiny_config(model__test_cfg=test_cfg))
    # Two images, four windows each.
    assert len(spy.macs) == 8
    assert spy.metrics[0]["gmacs"] == pytest.approx(sum(spy.macs) / 2 / 1e9)


def test_a_static_backbone_reports_its_cost(tiny_config):
    runner, spy = run(tiny_config("mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py"))
    assert spy.metrics[0]["gmacs"] == pytest.approx(runner.model.backbone.macs(64, 80) / 1e9)
    assert not RATES & set(spy.metrics[0])
    assert set(spy.outputs[0]) >= {"loss", "decode.loss_ce"}


def test_forgetting_the_hook_is_noticed(tiny_config):
    with pytest.warns(UserWarning, match=naming("attach_auxiliary_losses(model)", "outermost")):
        Runner.from_cfg(tiny_config(custom_hooks=[], train_cfg__val_interval=9)).train()


def test_a_model_without_our_backbone(tiny_config):
    backbone = {"type": "ResNet", "depth": 18, "norm_cfg": {"type": "BN"}, "_delete_": True}
    with pytest.raises(ValueError, match=naming("EncoderDecoder", "dynbackbones backbone")):
        Runner.from_cfg(tiny_config(model__backbone=backbone)).train()


def test_the_hook_attaches_once(tiny_config):
    from types import SimpleNamespace

    init_default_scope("mmseg")
    runner = SimpleNamespace(model=MODELS.build(tiny_config().model))
    hook = DynamicBackboneHook()
    for _ in range(2):
        hook.before_run(runner)
    assert len(runner.model._forward_hooks) == 1


def test_two_processes(config_file, two_processes, tmp_path):
    wrapper = {"type": "MMDistributedDataParallel", "device_ids": None, "broadcast_buffers": False}
    config = config_file(model_wrapper_cfg=wrapper, model__backbone__norm_eval=True)
    script = tmp_path / "script.py"
    # mmengine chooses a GPU without looking whether there is one.
    script.write_text(
        "import sys, torch\n"
        "torch.cuda.set_device = lambda device: None\n"
        "from dynbackbones.cli.train import main\n"
        "main(sys.argv[1:])\n"
    )
    two_processes(script, config)
    checkpoint = torch.load(tmp_path / "work" / "iter_2.pth", weights_only=True)
    first, second = checkpoint["random_states"]
    assert not torch.equal(first["torch"], second["torch"])
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    assert results["gmacs"] > 0


FINETUNE = "mmseg/sar-r18_pspnet_1xb4-3k_camvid-240x320_finetune.py"


def test_borders_of_the_labels_guide(tiny_config):
    runner, spy = run(tiny_config(FINETUNE))
    assert len(spy.outputs) == 2
    assert all(outputs["loss_guidance"] >= 0 for outputs in spy.outputs)
    assert runner.model.backbone.decisions.rate.min() > 0.9, "selectors start with everything"


@torch.no_grad()
def test_a_plain_segmentors_weights_give_its_maps_digit_for_digit(tiny_config, tmp_path):
    init_default_scope("mmseg")
    models = []
    for name in ("mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py", FINETUNE):
        torch.manual_seed(0)
        models.append(MODELS.build(tiny_config(name).model).eval())
    plain, model = models
    for child in plain.modules():
        if hasattr(child, "running_mean"):
            child.running_mean.normal_(std=0.1)
            child.running_var.uniform_(0.5, 2.0)
    file = tmp_path / "plain.pth"
    torch.save({"state_dict": plain.state_dict()}, file)
    dynbackbones.load_weights(model, file)
    images = torch.rand(2, 3, 65, 81)
    assert torch.equal(model(images), plain(images))
