"""torchvision's detectors, wrapped: what they are shown, and that they stay as they were."""

import json

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from dynbackbones import calibrate
from dynbackbones.errors import UserError
from dynbackbones.integrations.engine import Launch
from dynbackbones.integrations.torchvision import engine
from dynbackbones.integrations.torchvision.config import load_config
from dynbackbones.integrations.torchvision.detectors import build_detector
from dynbackbones.integrations.zoom import build_zoom
from dynbackbones.zoom import ZoomDetector
from tests.integrations.torchvision.conftest import CONFIGS
from tests.messages import naming

KINDS = torchvision.models.detection
SMALL = {"patch": 64, "scale": 4, "halo": 8}


@pytest.fixture
def detector():
    torch.manual_seed(0)
    model = KINDS.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=300, max_size=500
    )
    return model.eval()


def shapes_reaching(module, call):
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    try:
        call()
    finally:
        handle.remove()
    return seen


def test_the_backbone_is_shown_crops_and_the_reduced_image_alone(detector):
    zoom = ZoomDetector(detector, rate=0.25, **SMALL)
    image = torch.rand(3, 192, 256)
    seen = shapes_reaching(detector.backbone, lambda: zoom([image]))
    # 48x64 and 80x80, padded to the 32 that torchvision's detectors want.
    assert seen == [(1, 3, 64, 64), (3, 3, 96, 96)]


def test_the_detector_stays_as_it_was(detector):
    image = torch.rand(3, 100, 120)
    before, keys = detector([image]), list(detector.state_dict())
    zoom = ZoomDetector(detector, **SMALL)
    zoom([image])
    after = detector([image])
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert list(detector.state_dict()) == keys and detector.transform.min_size == (300,)
    assert [key.removeprefix("model.") for key in zoom.state_dict() if key != "threshold"] == keys


def test_in_training_it_is_the_detector(detector):
    zoom = ZoomDetector(detector, **SMALL).train()
    target = {"boxes": torch.tensor([[3.0, 3, 30, 30]]), "labels": torch.tensor([1])}
    losses = zoom([torch.rand(3, 100, 120)], [target])
    assert set(losses) == {"classification", "bbox_regression"} and detector.training


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fcos_resnet50_fpn"])
def test_other_detectors_run(name):
    model = getattr(KINDS, name)(weights=None, weights_backbone=None, num_classes=4).eval()
    zoom = ZoomDetector(model, **SMALL)
    (found,) = zoom([torch.rand(3, 128, 128)])
    assert sorted(found) == ["boxes", "labels", "scores"] and zoom.adapter.num_classes == (
        3 if "rcnn" in name else 4 - 1
    )
    assert zoom.decisions.macs.item() == pytest.approx(zoom.macs(128, 128, 0.25))


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "ssd300_vgg16"])
def test_detectors_that_zoom_cannot_serve_are_named(name):
    model = getattr(KINDS, name)(weights=None, weights_backbone=None)
    with pytest.raises(UserError, match=naming(type(model).__name__)):
        ZoomDetector(model)


def test_a_dynamic_backbone_learns_where_images_end():
    cfg = load_config(str(CONFIGS / "sar_retinanet_scratch.yaml"), ["MODEL.DEVICE", "cpu"])
    model = build_detector(cfg).eval()
    zoom = build_zoom(cfg, model, **SMALL, rate=1.0)
    zoom.run([torch.zeros(3, 70, 90, dtype=torch.uint8)])
    assert model.backbone.body.decisions.image_sizes[0] == (70, 80)


def options(tmp_path, *more):
    fixed = ["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]
    return [*fixed, *more]


def test_evaluations_zoom_where_the_config_says_so(datasets, tmp_path):
    base = options(tmp_path, "MODEL.ZOOM.PATCH", "96", "MODEL.ZOOM.ENABLED", "True")
    cfg = load_config(str(CONFIGS / "retinanet.yaml"), base)
    assert cfg.INPUT.MIN_SIZE_TEST == 0
    weights = tmp_path / "model_final.pth"
    torch.save({"model": build_detector(cfg).state_dict()}, weights)
    cfg = load_config(str(CONFIGS / "retinanet.yaml"), [*base, "MODEL.WEIGHTS", str(weights)])
    engine.main(cfg, Launch(eval_only=True))
    results = json.loads((tmp_path / "test_results.json").read_text())
    assert results["backbone"]["patch_rate"] == pytest.approx(1 / 3, abs=0.1)  # 2 of 6
    assert results["backbone"]["pixel_rate"] > 0.3 and "AP" in results["bbox"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["MODEL.ZOOM.POLICY", "learned"], ["MODEL.ZOOM.WEIGHTS"]),
        (["MODEL.ZOOM.WEIGHTS", "policy.pth"], ["MODEL.ZOOM.WEIGHTS", "policy.pth", "score"]),
        (["MODEL.ZOOM.RATE", "2.0"], ["MODEL.ZOOM", "rate", 2.0]),
        (["MODEL.ZOOM.SCALE", "0.5"], ["MODEL.ZOOM", "scale", 0.5]),
    ],
)
def test_wrong_options_are_named(changes, words, tmp_path):
    cfg = load_config(str(CONFIGS / "retinanet.yaml"), options(tmp_path, *changes))
    with pytest.raises(UserError, match=naming(*words)):
        build_zoom(cfg, build_detector(cfg))


def test_calibration_spends_macs(detector):
    zoom = ZoomDetector(detector, policy="random", **SMALL)
    images = [torch.rand(3, 128, 192), torch.rand(3, 192, 128)]
    least, most = (zoom.macs(128, 192, rate) for rate in (0, 1))
    reached = calibrate(zoom, images, target_macs=(least + most) / 2)
    zoom(images)
    assert zoom.decisions.macs.mean().item() == pytest.approx(reached)
    assert reached == pytest.approx((least + most) / 2)
    with pytest.raises(UserError, match=naming("target_macs")):
        calibrate(zoom, images, target_macs=least / 2)


def test_macs_are_those_of_what_ran(detector):
    zoom = ZoomDetector(detector, rate=0.5, **SMALL)
    with FlopCounterMode(display=False) as counter:
        zoom([torch.rand(3, 128, 192)])
    assert zoom.decisions.macs.item() == counter.get_total_flops() / 2
    assert zoom.full_macs(128, 192) > zoom.macs(128, 192, 0)


def test_bytes_are_refused_where_the_detector_refuses_them():
    detector = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    zoom = ZoomDetector(detector, patch=64, scale=2, halo=0)
    with pytest.raises(UserError, match=naming("floating", "uint8")):
        zoom([torch.zeros(3, 64, 64, dtype=torch.uint8)])
