"""Classifiers on other networks than ResNets, as their configs describe them."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

CONFIGS = Path(__file__).parents[3] / "configs" / "pretrain"


@pytest.mark.parametrize(
    ("name", "giga"),
    [("sar_resnext50-32x4d_imagenet", 3.207), ("sar_mobilenetv2_imagenet", 0.2035)],
)
def test_a_config_builds_what_the_paper_counts(attached, name, giga):
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    model = attached(MODELS.build(cfg.model)).train()
    head = model.head.fc.weight.numel()
    macs = model.backbone.macs(224, 224, share=cfg.model.backbone.target_rate) + head
    assert macs / 1e9 == pytest.approx(giga, abs=0.0005)
    samples = [DataSample().set_gt_label(label) for label in (1, 2)]
    losses = model(torch.randn(2, 3, 64, 64), samples, mode="loss")
    assert set(losses) == {"loss", "loss_activation_rate"}
    sum(losses.values()).backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None]
