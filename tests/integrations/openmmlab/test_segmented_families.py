"""Segmentors on other networks than ResNets train."""

import math

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

SAR = "mmseg/sar-r18_pspnet_1xb4-3k_camvid-240x320.py"
RESNEXT = {"depth": 50, "cardinality": 32, "width_per_group": 4}
FAMILIES = {
    "resnext": {"type": "StaticResNet", **RESNEXT},
    "sar_resnext": {"type": "SARResNet", **RESNEXT},
    "mobilenet": {"type": "StaticMobileNetV2"},
    "sar_mobilenet": {"type": "SARMobileNetV2"},
}


class Losses(Hook):
    """Keeps what each iteration's losses add up to."""

    def __init__(self):
        self.totals = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.totals.append(outputs["loss"].item())


# A SAR-ResNeXt's base branch and last stage are a plain one's.
@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[pytest.mark.slow] if f == "resnext" else []) for f in FAMILIES],
)
def test_a_segmentor_trains(tiny_config, family):
    cfg = tiny_config(SAR, train_cfg__max_iters=20, train_cfg__val_interval=20)
    cfg.default_hooks.checkpoint.interval = 20
    old = cfg.model.backbone
    keep = {"norm_cfg": old.norm_cfg, "output_stride": old.output_stride}
    sar = {"selector_margin": 2} if family.startswith("sar") else {}
    cfg.model.backbone = {**keep, **sar, **FAMILIES[family]}
    last, before = (320, 96) if "mobilenet" in family else (2048, 1024)
    cfg.model.decode_head.in_channels = last
    cfg.model.auxiliary_head.in_channels = before
    runner, losses = Runner.from_cfg(cfg), Losses()
    runner.register_hook(losses)
    runner.train()
    assert len(losses.totals) == 20 and all(map(math.isfinite, losses.totals))
    assert sum(losses.totals[-5:]) < sum(losses.totals[:5])
