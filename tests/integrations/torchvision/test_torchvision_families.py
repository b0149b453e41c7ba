"""Detectors on other networks than ResNets train."""

import math

import pytest

from dynbackbones.cli import train_net
from dynbackbones.integrations.mmengine.resume import RandomStateHook

BUILDER = "build_retinanet_{}_fpn_backbone"
FAMILIES = {
    "resnext": {
        "MODEL.BACKBONE.NAME": BUILDER.format("resnet"),
        "MODEL.RESNETS.DEPTH": "50",
        "MODEL.RESNETS.NUM_GROUPS": "32",
        "MODEL.RESNETS.WIDTH_PER_GROUP": "4",
        "MODEL.RESNETS.RES2_OUT_CHANNELS": "256",
    },
    "sar_resnext": {
        "MODEL.BACKBONE.NAME": BUILDER.format("sar_resnet"),
        "MODEL.SAR.DEPTH": "50",
        "MODEL.SAR.CARDINALITY": "32",
        "MODEL.SAR.WIDTH_PER_GROUP": "4",
    },
    "mobilenet": {"MODEL.BACKBONE.NAME": BUILDER.format("mobilenet_v2")},
    "sar_mobilenet": {
        "MODEL.BACKBONE.NAME": BUILDER.format("sar_mobilenet_v2"),
        "MODEL.SAR_MOBILENET.SELECTOR_MARGIN": "2.0",
    },
}


# A SAR-ResNeXt's base branch and last stage are a plain one's.
@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[pytest.mark.slow] if f == "resnext" else []) for f in FAMILIES],
)
def test_a_detector_trains(command, datasets, monkeypatch, family):
    totals, losses, after = [], [], RandomStateHook.after_train_iter

    def record(self, runner, batch_idx, data_batch=None, outputs=None):
        totals.append(sum(value.item() for value in outputs.values()))
        losses.append(outputs["loss_classification"].item())
        after(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(RandomStateHook, "after_train_iter", record)
    train = {"SOLVER.MAX_ITER": "20", "SOLVER.WARMUP_ITERS": "5", "SOLVER.CHECKPOINT_PERIOD": "20"}
    train_net.main(command("sar_retinanet_scratch", (), {**train, **FAMILIES[family]}))
    assert len(totals) == 20 and all(map(math.isfinite, totals))
    # That of boxes depends on which images come last.
    assert sum(losses[-5:]) < sum(losses[:5])
