"""mmseg's segmentors in ONNX: from what a pipeline gives to a label for each pixel."""

import pytest
import torch
from torch import nn

from dynbackbones.errors import UserError
from tests.messages import naming

pytest.importorskip("mmseg")
pytest.importorskip("onnxruntime")
from mmengine.config import Config

from dynbackbones.export import running
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.export_segmentor import logits_of, segmentor_to_onnx

HEAD = {
    "in_channels": 512,
    "in_index": 3,
    "channels": 16,
    "num_classes": 4,
    "norm_cfg": {"type": "BN"},
}
PSP = {"type": "PSPHead", "pool_scales": (1, 2, 3, 6)}
ASPP = {"type": "ASPPHead", "dilations": (1, 6, 12), "align_corners": True}
FCN = {"type": "FCNHead", "num_convs": 2}
PYRAMID = {
    "type": "FPNHead", "in_channels": [16] * 4, "in_index": [0, 1, 2, 3], "channels": 16,
    "feature_strides": [4, 8, 16, 32],
}  # fmt: skip
NECK = {"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": 16, "num_outs": 4}
PIXELS = {"mean": [120, 110, 100], "std": [60, 50, 40], "bgr_to_rgb": True}


def segmentor(head=PSP, backbone="SARResNet", stride=8, **options):
    """One of random weights, which tells places apart."""
    model = {
        "type": "EncoderDecoder",
        "backbone": {"type": backbone, "depth": 18, "output_stride": stride},
        "decode_head": {**HEAD, **head},
        "data_preprocessor": {"type": "SegDataPreProcessor", **PIXELS},
        "test_cfg": {"mode": "whole"},
    }
    torch.manual_seed(0)
    model = checks.build_model(Config({"default_scope": "mmseg", "model": {**model, **options}}))
    nn.init.normal_(model.decode_head.conv_seg.weight, std=0.3)
    net = model.backbone
    if hasattr(net, "policy"):
        nn.init.normal_(net.policy.fc.weight, std=0.5)
    return model.eval()


@pytest.mark.parametrize(
    ("head", "backbone", "options", "execution"),
    [
        (PSP, "SARResNet", {}, "skips regions where few are chosen"),
        (ASPP, "BlockDropResNet", {}, "skips blocks"),
        (ASPP, "StaticResNet", {}, "static"),
        (FCN, "StaticResNet", {}, "static"),
        (
            PYRAMID,
            "SARResNet",
            {"neck": NECK, "stride": 32},
            "skips regions where few are chosen",
        ),
    ],
    ids=["PSPNet on SAR", "DeepLabv3 on BlockDrop", "DeepLabv3", "FCN", "semantic FPN on SAR"],
)
def test_the_labels_are_the_segmentors(head, backbone, options, execution, tmp_path):
    model = segmentor(head, backbone, **options)
    report = segmentor_to_onnx(model, tmp_path / "net.onnx")
    assert report.execution == execution
    file = running.session(report.path)
    for size in ((64, 96), (101, 77)):
        pixels = 255 * torch.rand(1, 3, *size)
        found = running.run(file, {"images": pixels})
        logits = logits_of(model, pixels)
        bound = 1e-4 * float(logits.abs().max())
        torch.testing.assert_close(found["logits"], logits, rtol=0, atol=bound)
        whole = model.decode_head.predict_by_feat(logits, [{"img_shape": size}])
        assert (found["labels"] == whole.argmax(dim=1)).float().mean() > 0.999
        assert len(found["labels"].unique()) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_cfg": {"mode": "slide", "crop_size": (64, 64), "stride": (32, 32)}}, ["'slide'"]),
        ({"head": {"type": "GCHead"}}, ["GCHead"]),
        ({"head": {"type": "EMAHead", "ema_channels": 8, "num_bases": 4, "num_stages": 1}},
         ["EMAHead", "PSPHead"]),
        ({"head": PYRAMID, "neck": {**NECK, "num_outs": 5}, "stride": 32}, ["FPN"]),
        ({"neck": {"type": "MultiLevelNeck", "in_channels": [64, 128, 256, 512],
                   "out_channels": 512, "scales": [1, 1, 1, 1]}}, ["MultiLevelNeck", "FPN"]),
    ],
    ids=["slide", "kind of FCN", "head", "levels", "neck"],
)
def test_segmentors_that_cannot_be(options, words, tmp_path):
    with pytest.raises(UserError, match=naming(*words, "--part backbone")):
        segmentor_to_onnx(segmentor(**options), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
