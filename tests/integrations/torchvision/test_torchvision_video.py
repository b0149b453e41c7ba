"""torchvision's detectors and segmentors, and this package's predictors, on a clip."""

import numpy as np
import pytest
import torch
from torchvision.models import detection, resnet18, segmentation
from torchvision.transforms.functional import to_tensor

import dynbackbones
from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.integrations.torchvision.detectors import FPNBackbone
from dynbackbones.zoom import ZoomDetector
from tests.messages import naming
from tests.video.toy_clip import panned

CLIP = panned([(0, 0), (4, 2), (8, 4)])


def make(build, **options):
    torch.manual_seed(0)
    return build(weights=None, weights_backbone=None, **options).eval()


def detector(build=detection.retinanet_resnet50_fpn, **options):
    model = make(build, num_classes=3, min_size=64, max_size=96, **options)
    if hasattr(model, "score_thresh"):
        model.score_thresh = 0.0  # untrained, it is sure of nothing
        model.detections_per_img = 5
    return model


@pytest.mark.parametrize(
    "build", [detection.retinanet_resnet50_fpn, detection.fasterrcnn_resnet50_fpn]
)
def test_key_frames_are_the_detector_itself(build):
    model = detector(build)
    stream = video.Stream(model, schedule=video.Every(1))
    for frame in CLIP[:2]:
        with torch.no_grad():
            (expected,) = model([to_tensor(frame.copy())])
        (found,) = stream(frame)
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_boxes_move_and_their_scores_stay():
    stream = video.Stream(detector(), cut=None)
    (before,) = stream(CLIP[0])
    before = {name: values.clone() for name, values in before.items()}
    (after,) = stream(CLIP[1])
    assert len(before["boxes"]) == 5
    assert torch.equal(after["scores"], before["scores"])
    assert torch.equal(after["labels"], before["labels"])
    centre = (before["boxes"][:, 0] > 10) & (before["boxes"][:, 2] < 118)
    assert not torch.equal(after["boxes"], before["boxes"]) or not centre.any()
    assert stream.decision.macs == 0
    stream.schedule.k = 1
    stream(CLIP[2])
    assert stream.decision.macs > 1e8


def test_masks_move_with_their_boxes():
    model = make(detection.maskrcnn_resnet50_fpn, num_classes=3, min_size=64, max_size=96)
    model.roi_heads.score_thresh = 0.0
    model.roi_heads.detections_per_img = 3
    stream = video.Stream(model, cut=None)
    (before,) = stream(CLIP[0])
    (after,) = stream(CLIP[1])
    assert after["masks"].shape == (len(after["boxes"]), 1, *CLIP[0].shape[:2])
    assert len(before["boxes"]) > 0


def test_a_segmentor_keeps_its_form():
    model = make(segmentation.lraspp_mobilenet_v3_large, num_classes=3)
    with pytest.raises(UserError, match="LRASPP"):
        video.Stream(model)
    model = make(segmentation.fcn_resnet50, num_classes=3)
    stream = video.Stream(model, schedule=video.Every(2), cut=None)
    with torch.no_grad():
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        pixels = (to_tensor(CLIP[0].copy()) - mean[:, None, None]) / std[:, None, None]
        expected = model(pixels[None])["out"]
    assert torch.allclose(stream(CLIP[0])["out"], expected, atol=1e-5)
    found = stream(CLIP[1])
    assert list(found) == ["out"] and found["out"].shape == expected.shape


def test_a_stream_multiplies_with_zoom():
    model = detector()
    zoom = ZoomDetector(model, patch=32, scale=2, halo=4, rate=0.25)
    stream = video.Stream(zoom, schedule=video.Every(2), cut=None)
    with torch.no_grad():
        (expected,) = zoom([to_tensor(CLIP[0].copy())])
        (plain,) = model([to_tensor(CLIP[0].copy())])
    (found,) = stream(CLIP[0])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["boxes"], plain["boxes"])
    decisions, macs = zoom.decisions, stream.decision.macs
    assert macs == pytest.approx(float(decisions.macs[0]), rel=0.01)
    (moved,) = stream(CLIP[1])
    assert zoom.decisions is decisions and stream.decision.macs == 0  # it did not run
    assert torch.equal(moved["scores"], found["scores"])


@pytest.mark.parametrize("moves", ["result", "features"])
@pytest.mark.parametrize("name", ["sar_resnet18", "blockdrop_resnet18"])
def test_a_stream_multiplies_with_dynamic_backbones(name, moves):
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(name)
    levels = [f"p{level}" for level in range(3, 8)]
    body = FPNBackbone(net, ["res3", "res4", "res5"], levels, 16, strided_levels=True, norm="")
    model = detection.RetinaNet(body, num_classes=3, min_size=64, max_size=96)
    model.score_thresh, model.detections_per_img = 0.0, 5
    dynbackbones.attach(model.eval())
    stream = video.Stream(model, schedule=video.Every(2), moves=moves, cut=None)
    with torch.no_grad():
        (expected,) = model([to_tensor(CLIP[0].copy())])
    (found,) = stream(CLIP[0])
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    decisions = net.decisions
    assert decisions.rate is not None and stream.decision.macs > 1e7
    (moved,) = stream(CLIP[1])
    assert net.decisions is decisions  # it did not run
    assert torch.equal(moved["scores"], found["scores"]) == (moves == "result")
    net(torch.rand(3, 3, 32, 32))  # no sizes are left over from the frame


def same(one, other):
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def noted(model):
    """How often the backbone runs."""
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    "build, options",
    [
        (detection.retinanet_resnet50_fpn, {}),
        (detection.fcos_resnet50_fpn, {}),
        (detection.maskrcnn_resnet50_fpn, {"box_detections_per_img": 3}),
    ],
)
def test_detectors_look_again_at_moved_features(build, options):
    model = detector(build, **options)
    calls = noted(model)
    stream = video.Stream(model, schedule=video.Every(2), moves="features", cut=None)
    with torch.no_grad():
        (expected,) = model([to_tensor(CLIP[0].copy())])
    (found,) = stream(CLIP[0])
    same(found, expected)
    (moved,) = stream(CLIP[1])
    assert len(calls) == 2 and list(moved) == list(found)
    macs = stream.decision.macs
    stream(CLIP[2])
    assert 0 < macs < stream.decision.macs


def test_ssd_has_features_too():
    torch.manual_seed(0)
    model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    calls = noted(model.eval())
    stream = video.Stream(model, schedule=video.Every(2), moves="features", cut=None)
    (found,), (moved,) = stream(CLIP[0]), stream(CLIP[0])
    assert len(calls) == 1 and not stream.decision.key
    for name in found:  # nothing moved
        assert torch.allclose(found[name].float(), moved[name].float(), atol=1e-3)


def test_segmentors_look_again_at_moved_features():
    model = make(segmentation.fcn_resnet50, num_classes=3, aux_loss=True)
    calls = noted(model)
    stream = video.Stream(model, schedule=video.Every(2), moves="features", cut=None)
    plain = video.Stream(model, schedule=video.Every(1))
    same(stream(CLIP[0]), plain(CLIP[0]))
    found = stream(CLIP[1])
    assert len(calls) == 2 and found["out"].shape == (1, 3, *CLIP[0].shape[:2])
    assert not torch.equal(found["out"], plain(CLIP[0])["out"])


def test_a_zoom_has_no_features_of_the_whole_frame():
    zoom = ZoomDetector(detector(), patch=32, scale=2, halo=4, rate=0.25)
    with pytest.raises(UserError, match=naming("ZoomDetector", "moves='result'")):
        video.Stream(zoom, moves="features")


def test_a_red_square_arrives_red():
    seen = []
    model = detector()
    model.transform.register_forward_pre_hook(lambda _, args: seen.append(args[0][0].clone()))
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[16:48, 32:64, 0] = 255
    video.Stream(model)(frame)
    video.Stream(model, format="BGR")(frame[:, :, ::-1])
    for image in seen:
        assert image[:, 30, 50].tolist() == [1, 0, 0]


def test_what_is_no_detector_is_refused():
    with pytest.raises(UserError, match=naming("ResNet")):
        video.Stream(resnet18())
