"""The YAML files in configs/: they agree where their results are compared."""

from pathlib import Path

import pytest

from dynbackbones.integrations.torchvision import schema
from dynbackbones.integrations.torchvision.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
NETWORK = (
    *("MODEL.BACKBONE.NAME", "MODEL.SAR.", "MODEL.BLOCKDROP.", "MODEL.RESNETS."),
    *("MODEL.MOBILENET.", "MODEL.SAR_MOBILENET.", "OUTPUT_DIR"),
)


def flat(name):
    return dict(schema.leaves(load_config(str(CONFIGS / name))))


def network(values):
    return {key: value for key, value in values.items() if key.startswith(NETWORK)}


@pytest.mark.parametrize(
    "dynamic, baseline",
    [
        ("sar_retinanet.yaml", "retinanet_r50.yaml"),
        ("sar_retinanet_g2s4a1.yaml", "retinanet_r50.yaml"),
        ("sar_retinanet_x50-32x4d.yaml", "retinanet_x50-32x4d.yaml"),
        ("sar_retinanet_mnv2.yaml", "retinanet_mnv2.yaml"),
        ("blockdrop_retinanet.yaml", "retinanet_r50.yaml"),
        ("blockdrop_faster_rcnn.yaml", "faster_rcnn_r50.yaml"),
        ("sar_faster_rcnn.yaml", "faster_rcnn_r50.yaml"),
        ("sar_faster_rcnn_g2s4a1.yaml", "faster_rcnn_r50.yaml"),
        ("bccd/sar_retinanet_r18.yaml", "bccd/retinanet_r18.yaml"),
    ],
)
def test_baselines_differ_by_the_backbone_alone(dynamic, baseline):
    first, second = flat(dynamic), flat(baseline)
    assert network(first) != network(second)
    rest = [
        {key: value for key, value in values.items() if not key.startswith(NETWORK)}
        for values in (first, second)
    ]
    assert rest[0] == rest[1]
    assert first["OUTPUT_DIR"] != second["OUTPUT_DIR"]


def test_variants_keep_the_target_rate():
    for name in ("sar_retinanet", "sar_faster_rcnn"):
        values, variant = flat(f"{name}.yaml"), flat(f"{name}_g2s4a1.yaml")
        # 0 groups are the layout's own number, 2.
        assert [values[f"MODEL.SAR.{k}"] for k in ("GROUPS", "BASE_SCALE", "ALPHA")] == [0, 2, 2]
        assert [variant[f"MODEL.SAR.{k}"] for k in ("GROUPS", "BASE_SCALE", "ALPHA")] == [0, 4, 1]
        assert values["MODEL.SAR.TARGET_RATE"] == variant["MODEL.SAR.TARGET_RATE"] == 0.5


def test_blockdrop_takes_the_resnet_of_the_plain_detector():
    blockdrop, plain = flat("blockdrop_retinanet.yaml"), flat("retinanet_r50.yaml")
    keys = {key for key in plain if key.startswith("MODEL.RESNETS.")}
    assert {key: blockdrop[key] for key in keys} == {key: plain[key] for key in keys}
