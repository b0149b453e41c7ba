"""``dynbackbones test --per-image``: how images differ in what they are given."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

from dynbackbones.cli.test import main
from dynbackbones.integrations.openmmlab import checks

CONFIGS = Path(__file__).parents[3] / "configs" / "pretrain"
BLOCKDROP = CONFIGS / "blockdrop_resnet20_cifar10-small_3-joint.py"
SAR = CONFIGS / "_base_/recipes/sar_resnet20_cifar10-small.py"
PLAIN = f"""
_base_ = {str(SAR)!r}
model = dict(
    backbone=dict(_delete_=True, type="CifarResNet", depth=20, out_indices=(2,)),
    head=dict(in_channels=64),
)
"""
IMAGES = 24


@pytest.fixture
def per_image(tmp_path):
    """Tests a config's network with weights that decide for each image; returns the work dir."""

    def call(config, *options):
        torch.manual_seed(0)
        model = checks.build_model(checks.load_config(config))
        if hasattr(model.backbone, "policy"):
            torch.nn.init.normal_(model.backbone.policy.fc.weight, std=3)
            torch.nn.init.zeros_(model.backbone.policy.fc.bias)
        torch.nn.init.normal_(model.head.fc.weight)
        weights, data = tmp_path / "weights.pth", tmp_path / "val.npz"
        torch.save({"state_dict": model.state_dict()}, weights)
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (IMAGES, 1, 1, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)
        np.savez(data, images=pixels, labels=rng.integers(0, 10, IMAGES))
        main([
            str(config), str(weights), "--work-dir", str(tmp_path / "run"), "--per-image",
            "--cfg-options", "test_dataloader.batch_size=10",
            f"test_dataloader.dataset.data_root={tmp_path}", "visualizer.vis_backends=[]", *options,
        ])  # fmt: skip
        return tmp_path / "run"

    return call


def test_blocks_have_a_histogram_a_correlation_and_groups(per_image, capsys):
    folder = per_image(BLOCKDROP)
    figures = json.loads((folder / "per_image.json").read_text())
    results = json.loads((folder / "test_results.json").read_text())
    assert figures["rate"] == "block_usage" and figures["images"] == IMAGES
    assert sum(figures["histogram"]) == IMAGES and figures["std"] > 0
    assert figures["mean"] == pytest.approx(results["block_usage"])
    assert figures["gmacs"] == pytest.approx(results["gmacs"])
    for name in ("loss", "confidence"):
        assert -1 <= figures[f"correlation_with_{name}"] <= 1
    printed = capsys.readouterr().out
    assert "block usage of an image" in printed and "correlation with the loss" in printed
    for name in ("rates.png", "policies.png"):
        assert str(folder / name) in printed
        with Image.open(folder / name) as picture:
            assert picture.width > 300


def test_a_network_of_regions_has_no_policies(per_image):
    folder = per_image(SAR)
    figures = json.loads((folder / "per_image.json").read_text())
    results = json.loads((folder / "test_results.json").read_text())
    assert figures["rate"] == "activation_rate" and figures["images"] == IMAGES
    assert figures["mean"] == pytest.approx(results["activation_rate"])
    assert sum(figures["histogram"]) == IMAGES
    assert (folder / "rates.png").exists() and not (folder / "policies.png").exists()


def test_a_plain_network_is_said_to_decide_nothing(per_image, tmp_path, capsys):
    (tmp_path / "plain.py").write_text(PLAIN)
    folder = per_image(tmp_path / "plain.py")
    assert "decided nothing" in capsys.readouterr().out
    assert not (folder / "per_image.json").exists() and (folder / "test_results.json").exists()
