"""detectron2's DefaultPredictor on a clip."""

import numpy as np
import pytest
import torch

from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.zoom import ZoomDetector
from tests.messages import naming
from tests.video.toy_clip import panned

pytest.importorskip("detectron2")
from detectron2.config import get_cfg  # noqa: E402
from detectron2.engine import DefaultPredictor  # noqa: E402

pytestmark = pytest.mark.detectron2
CLIP = panned([(0, 0), (4, 2), (8, 4)])


def predictor(**changes):
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    cfg.merge_from_list([v for pair in changes.items() for v in pair])
    torch.manual_seed(0)
    return DefaultPredictor(cfg)


def test_key_frames_are_the_predictor_itself():
    model = predictor()
    stream = video.Stream(model, schedule=video.Every(1))
    for frame in CLIP[:2]:
        expected = model(np.ascontiguousarray(frame[:, :, ::-1]))["instances"]
        found = stream(frame)["instances"]
        assert found.image_size == expected.image_size
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)


def test_boxes_move_and_their_scores_stay():
    stream = video.Stream(predictor(), cut=None)
    before = stream(CLIP[0])["instances"]
    scores, boxes = before.scores.clone(), before.pred_boxes.tensor.clone()
    before.scores.zero_()  # a caller may do with it what it likes
    after = stream(CLIP[1])["instances"]
    assert len(after) == 5 and torch.equal(after.scores, scores)
    assert torch.equal(after.pred_classes, before.pred_classes)
    assert not torch.equal(after.pred_boxes.tensor, boxes)
    assert stream.decision.macs == 0


def test_a_zoom_in_the_predictor_multiplies_with_a_stream():
    model = predictor(**{"INPUT.MIN_SIZE_TEST": 0})
    zoom = ZoomDetector(model.model, patch=32, scale=2, halo=4, rate=0.25)
    with pytest.raises(UserError, match=naming("ZoomDetector", "predictor.model")):
        video.Stream(zoom)
    model.model = zoom
    stream = video.Stream(model, schedule=video.Every(2), cut=None)
    found = stream(CLIP[0])["instances"]
    decisions = zoom.decisions
    assert 0 < float(decisions.rate[0]) < 1
    moved = stream(CLIP[1])["instances"]
    assert zoom.decisions is decisions and len(moved) == len(found)


def two_stages():
    """Changes to Faster R-CNN."""
    return {
        "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    }


@pytest.mark.parametrize("changes", [{}, two_stages()])
def test_heads_look_again_at_moved_features(changes):
    model, calls = predictor(**changes), []
    model.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    stream = video.Stream(model, schedule=video.Every(2), moves="features", cut=None)
    frames = [frame[:90, :100] for frame in CLIP]  # padded to the stride
    expected = model(np.ascontiguousarray(frames[0][:, :, ::-1]))["instances"]
    calls.clear()
    found = stream(frames[0])["instances"]
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores) and len(calls) == 1
    moved = stream(frames[1])["instances"]
    assert len(calls) == 1 and len(moved) and moved.image_size == found.image_size
    assert not torch.equal(moved.pred_boxes.tensor, found.pred_boxes.tensor)
    macs = stream.decision.macs
    stream(frames[2])
    assert 0 < macs < stream.decision.macs


def test_a_zoom_has_no_features_of_the_whole_frame():
    model = predictor(**{"INPUT.MIN_SIZE_TEST": 0})
    model.model = ZoomDetector(model.model, patch=32, scale=2, halo=4, rate=0.25)
    with pytest.raises(UserError, match=naming("ZoomDetector", "moves='result'")):
        video.Stream(model, moves="features")


@pytest.mark.parametrize("wanted", ["BGR", "RGB"])
def test_a_red_square_arrives_red(wanted):
    model, seen = predictor(**{"INPUT.FORMAT": wanted}), []
    normalise = model.model.preprocess_image
    model.model.preprocess_image = lambda inputs: (
        seen.append(inputs[0]["image"].clone()) or normalise(inputs)
    )
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[16:48, 32:64, 0] = 255
    video.Stream(model)(frame)
    video.Stream(model, format="BGR")(frame[:, :, ::-1])
    for image in seen:
        assert image[:, 30, 50].tolist() == ([255, 0, 0] if wanted == "RGB" else [0, 0, 255])


def test_a_model_without_its_predictor_is_refused():
    with pytest.raises(UserError, match=naming("DefaultPredictor", "RetinaNet")):
        video.Stream(predictor().model)
