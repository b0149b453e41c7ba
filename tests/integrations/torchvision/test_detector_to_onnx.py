"""Whole RetinaNets in ONNX: from the pixels of any image to the boxes that the Predictor finds."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.torchvision.predictor import Predictor
from tests.messages import naming

pytest.importorskip("onnxruntime")

from dynbackbones.export import running
from dynbackbones.integrations import exported_detector
from dynbackbones.integrations.torchvision.export import detector_to_onnx

DEMO = Path(__file__).parents[3] / "configs" / "demo"
SMALL = [
    *("MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.RETINANET.NUM_CONVS", "1", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "150"),
]
BLOCKDROP = ("MODEL.BACKBONE.NAME", "build_retinanet_blockdrop_resnet_fpn_backbone")
# Enlarged, kept, reduced, kept within the long side, and of odd proportions.
SIZES = [(64, 80), (96, 96), (200, 150), (90, 260), (131, 75)]


def pixels(height, width, seed):
    """A smooth random image, (height, width, 3) uint8."""
    coarse = torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(seed))
    image = nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (255 * image).byte().permute(1, 2, 0).numpy()


def predictor(config, *opts):
    """A detector of random weights that finds something, and decides for each image."""
    cfg = load_config(str(DEMO / config), [*SMALL, *opts])
    torch.manual_seed(0)
    model = build_detector(cfg)
    nn.init.normal_(model.head.classification_head.cls_logits.weight, std=0.3)
    nn.init.normal_(model.head.regression_head.bbox_reg.weight, std=0.1)
    net = model.backbone.body
    if hasattr(net, "policy"):
        nn.init.normal_(net.policy.fc.weight, std=0.3)
        net.policy.threshold.fill_(1.0)
    for stage in net.stages().values() if hasattr(net, "target_rate") else ():
        for selector in stage.selectors:
            nn.init.normal_(selector.fc.weight, std=3.0)
            nn.init.zeros_(selector.fc.bias)
    return Predictor(cfg, model)


@pytest.mark.parametrize(
    "config",
    [
        ("retinanet.yaml",),
        ("retinanet.yaml", *BLOCKDROP, "MODEL.BLOCKDROP.POLICY_SIZE", "48"),
        ("sar_retinanet.yaml",),
        ("sar_retinanet_scratch.yaml", "INPUT.FORMAT", "BGR"),
        ("retinanet.yaml", "INPUT.MIN_SIZE_TEST", "0", "MODEL.RETINANET.NORM", "GN"),
    ],
    ids=["static", "blockdrop", "sar", "sar from scratch", "never resized"],
)
def test_the_boxes_of_five_images_are_the_predictors(config, tmp_path):
    detector = predictor(*config)
    report = detector_to_onnx(detector, detector.cfg, tmp_path / "net.onnx")
    file, choices = running.session(report.path), set()
    for seed, size in enumerate(SIZES):
        image = pixels(*size, seed)
        wanted = detector.predict(image)
        found = exported_detector.detect(file, image, detector.cfg.INPUT.FORMAT)
        assert len(wanted.scores) > 10
        distance = exported_detector.distances(found, wanted, size)
        if wanted.input_size == size:
            assert len(found.scores) == len(wanted.scores)
            assert float(distance.max()) < 1e-4
        else:  # ONNX Runtime and Pillow round some grey levels differently
            assert float(distance.median()) < 5e-3
            assert (distance < 0.02).float().mean() > 0.95
        choices.add(str(wanted.decisions.choices()))
    assert len(choices) == 5 or report.execution == "static"


def test_what_a_file_says(tmp_path):
    detector = predictor("retinanet.yaml", *BLOCKDROP)
    report = detector_to_onnx(detector, detector.cfg, tmp_path / "net.onnx")
    assert report.execution == "skips blocks"
    assert report.inputs == {
        "image": (3, "height", "width"),
        "score_threshold": (1,),
        "thresholds": (1,),
    }
    assert list(report.outputs) == ["boxes", "scores", "labels", "policy", "probabilities"]


def test_thresholds_after_export(tmp_path):
    detector = predictor("retinanet.yaml", *BLOCKDROP)
    detector_to_onnx(detector, detector.cfg, tmp_path / "net.onnx")
    file = running.session(tmp_path / "net.onnx")
    image = torch.from_numpy(pixels(96, 96, 0)).permute(2, 0, 1).contiguous()
    for bound, usage in ((-9.0, 1), (9.0, 0)):
        found = running.run(file, {"image": image, "thresholds": torch.tensor([bound])})
        assert found["policy"].float().mean() == usage
    found = running.run(file, {"image": image, "score_threshold": torch.tensor([0.999])})
    assert len(found["scores"]) < 10 and (found["scores"] > 0.999).all()
    none = running.run(file, {"image": image, "score_threshold": torch.tensor([1.0])})
    assert none["boxes"].shape == (0, 4) and none["labels"].shape == (0,)


@pytest.mark.parametrize(
    ("config", "opts", "words"),
    [
        ("sar_faster_rcnn.yaml", [], ["FasterRCNN", "RetinaNet", "--part backbone"]),
        (
            "wide_retinanet.yaml",
            ["MODEL.ZOOM.ENABLED", "True"],
            ["MODEL.ZOOM.ENABLED", "--part backbone"],
        ),
    ],
)
def test_detectors_that_cannot_be(config, opts, words, tmp_path):
    opts = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", *opts]
    cfg = load_config(str(DEMO / config), opts)
    with pytest.raises(UserError, match=naming(*words)):
        detector_to_onnx(Predictor(cfg, build_detector(cfg)), cfg, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_finds_something_else_is_not_written(tmp_path, monkeypatch):
    detector = predictor("retinanet.yaml")
    # A step of the detector's own that the file does not know.
    step = detector.model.box_coder.decode_single
    monkeypatch.setattr(detector.model.box_coder, "decode_single", lambda *x: step(*x) + 20)
    with pytest.raises(RuntimeError, match=naming("nothing is written")):
        detector_to_onnx(detector, detector.cfg, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
