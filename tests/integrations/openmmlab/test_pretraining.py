"""How classifiers train: averaged weights, accumulated steps, several processes, the demo run."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import distributed, nn

import dynbackbones.integrations.openmmlab  # noqa: F401  (registers)
from dynbackbones import attach_auxiliary_losses, checkpoints
from dynbackbones.backbones.base import find_backbones
from dynbackbones.cli.train import main as train_command
from dynbackbones.integrations.config import build_backbone, chosen_backbone
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.weights import load_weights
from dynbackbones.layers import regions
from dynbackbones.layers.gumbel import gumbel_select

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
IMAGES = 4  # of a process
SIZE = 64


class SameNoise:
    """`gumbel_select` with noise that does not depend on the image, the batch or the process."""

    def __call__(self, logits, temperature):
        generator = torch.Generator().manual_seed(0)
        noise = torch.empty(logits.shape[1:]).exponential_(generator=generator).log()
        soft = ((logits - noise) / temperature).softmax(dim=-1)[..., 1]
        return (soft > 0.5).float() + (soft - soft.detach())


@pytest.fixture
def same_noise(monkeypatch):
    monkeypatch.setattr(regions, "gumbel_select", SameNoise())


def classifier(**backbone):
    torch.manual_seed(0)
    backbone = {"selector_margin": 0.5, "loss_weight": 10.0, **backbone}
    model = MODELS.build({
        "type": "ImageClassifier",
        "backbone": {
            "type": "SARResNet", "depth": 18, "norm_eval": True, "out_indices": (3,), **backbone,
        },
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": 3, "in_channels": 512},
    }).train()  # fmt: skip
    attach_auxiliary_losses(model)
    # Away from the start of the ramp, where the rate's gradient is nearly nothing.
    model.backbone.set_progress(0.6)
    return model


def batch_of(ranks):
    """The images and labels of processes, one process after the other."""
    images = [
        # Bright and dark, or both processes would have the same rates.
        (1 - 2 * rank)
        * torch.randn(IMAGES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(rank)).abs()
        for rank in ranks
    ]
    labels = [
        DataSample().set_gt_label((index + rank) % 3) for rank in ranks for index in range(IMAGES)
    ]
    return torch.cat(images), labels


def total(losses):
    assert {"loss", "loss_activation_rate"} == {name for name in losses if "loss" in name}
    return sum(losses.values())


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    assert any("selectors" in name and value.any() for name, value in expected.items())
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-4 * value.abs().max().item(), msg=name
        )


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    regions.gumbel_select = SameNoise()
    model = nn.parallel.DistributedDataParallel(classifier())
    inputs, samples = batch_of([rank])
    losses = model(inputs, samples, mode="loss")
    total(losses).backward()
    rate = model.module.backbone.decisions.activation_rate.mean()
    torch.save(
        (gradients(model.module), losses["loss_activation_rate"].detach(), rate),
        os.path.join(folder, f"{rank}.pth"),
    )
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_the_double_batch(tmp_path, same_noise):
    # This file is the processes' program: test modules cannot be imported by name everywhere.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    results = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    model = classifier()
    losses = model(*batch_of([0, 1]), mode="loss")
    total(losses).backward()
    for found, rate_loss, _ in results:
        torch.testing.assert_close(rate_loss, losses["loss_activation_rate"].detach())
        assert_same_gradients(
            {k.removeprefix("module."): v for k, v in found.items()}, gradients(model)
        )
    # Otherwise the mean of two rate losses would be the loss of the mean rate.
    assert abs(results[0][2] - results[1][2]) > 0.01


def test_noise_of_the_tests_is_gumbels(same_noise):
    torch.manual_seed(0)
    logits = torch.randn(2000, 1, 1, 2)
    sampled = torch.stack([gumbel_select(logits, 1.0) for _ in range(20)]).mean()
    expected = logits.softmax(dim=-1)[..., 1].mean()
    assert sampled == pytest.approx(expected.item(), abs=0.02)


def test_accumulated_steps_are_the_mean_of_their_losses(same_noise):
    model = classifier()
    expected = {}
    for rank in range(2):
        model.zero_grad()
        (total(model(*batch_of([rank]), mode="loss")) / 2).backward()
        for name, value in gradients(model).items():
            expected[name] = expected.get(name, 0) + value
    model.zero_grad()
    seen = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.append(gradients(model)))
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    for rank in range(2):
        wrapper.update_params(total(model(*batch_of([rank]), mode="loss")))
    assert len(seen) == 1
    assert_same_gradients(seen[0], expected)


def test_averaged_weights_are_evaluated_kept_and_resumed(
    shared_class_root, class_options, tool, tmp_path
):
    config = CONFIGS / "pretrain" / "sar_resnet50_imagenet_ema.py"
    options = ["--cfg-options", *class_options(shared_class_root), "custom_hooks.2.momentum=0.3"]
    tool("train", config, "--work-dir", tmp_path / "whole", *options)
    start = tmp_path / "whole" / "epoch_1.pth"
    torch.manual_seed(99)
    tool("train", config, "--work-dir", tmp_path / "resumed", "--resume", start, *options)
    whole, resumed = (
        torch.load(tmp_path / name / "epoch_2.pth", weights_only=True)
        for name in ("whole", "resumed")
    )
    for part in ("state_dict", "ema_state_dict"):
        assert whole[part].keys() == resumed[part].keys()
        for key, value in whole[part].items():
            assert torch.equal(value, resumed[part][key]), key
    averaged = {name for name in whole["state_dict"] if "selectors" in name and "weight" in name}
    assert averaged and all(
        not torch.equal(whole["state_dict"][name], whole["ema_state_dict"][f"module.{name}"])
        for name in averaged
    )
    # What validation reported is what the file's weights give.
    tool("test", config, tmp_path / "whole" / "epoch_2.pth", "--work-dir", tmp_path / "t", *options)
    results = [
        (tmp_path / name).read_text() for name in ("t/test_results.json", "whole/results.json")
    ]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def demo_pretraining(tmp_path_factory):
    """Checkpoint of two iterations of the demo pretraining."""
    folder = tmp_path_factory.mktemp("pretrain")
    train_command([
        str(CONFIGS / "demo" / "pretrain_digits.py"), "--work-dir", str(folder), "--cfg-options",
        "train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.batch_size=4",
        "train_dataloader.dataset.dataset.count=8", "val_dataloader.dataset.count=8",
        "test_dataloader.dataset.count=8", "vis_backends=[]", "visualizer.vis_backends=[]",
    ])  # fmt: skip
    return folder / "iter_2.pth"


def demo_detector(*options):
    file = CONFIGS / "demo" / "sar_retinanet_pretrained.yaml"
    return load_config(str(file), options)


def test_the_demo_checkpoint_starts_the_demo_detector(demo_pretraining, caplog):
    detector = build_detector(demo_detector())
    with caplog.at_level(logging.INFO):
        load_weights(detector, str(demo_pretraining), logging.getLogger("test"))
    assert caplog.text.endswith("scratch; left out head.fc.bias, head.fc.weight\n")
    state = checkpoints.state_dict_of(checkpoints.load(demo_pretraining))
    loaded = find_backbones(detector)[0].state_dict()
    assert {f"backbone.{key}" for key in loaded} == {k for k in state if not k.startswith("head")}
    assert all(torch.equal(value, state[f"backbone.{key}"]) for key, value in loaded.items())


def test_pretraining_and_detector_have_the_same_network_and_pixels():
    classifier_cfg = Config.fromfile(CONFIGS / "demo" / "pretrain_digits.py")
    cfg = demo_detector()
    pretrained = MODELS.build(classifier_cfg.model).backbone
    detector = build_backbone(cfg, chosen_backbone(cfg))
    assert pretrained.macs(160, 213, 0.4) == detector.macs(160, 213, 0.4)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (pretrained, detector)]
    assert shapes[0] == shapes[1]
    assert pretrained.target_rate == detector.target_rate
    assert detector.target_schedule == "constant" and detector.temperature == (0.1, 0.01)
    assert cfg.MODEL.SAR.SELECTOR_LR_FACTOR == 1
    pixels = classifier_cfg.model.data_preprocessor
    assert cfg.INPUT.FORMAT == "BGR" and not pixels.to_rgb
    assert list(cfg.MODEL.PIXEL_MEAN) == pixels.mean and list(cfg.MODEL.PIXEL_STD) == pixels.std
    last = f"work_dirs/pretrain_digits/iter_{classifier_cfg.train_cfg.max_iters}.pth"
    assert last == cfg.MODEL.WEIGHTS


@pytest.mark.slow
def test_the_demo_pretraining_learns(tool, tmp_path):
    tool("train", CONFIGS / "demo" / "pretrain_digits.py", "--work-dir", tmp_path / "work")
    results = json.loads((tmp_path / "work" / "results.json").read_text())
    assert results["accuracy/top1"] > 50  # ten classes; 69 to 75 were seen
    assert results["activation_rate"] < 0.75


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
