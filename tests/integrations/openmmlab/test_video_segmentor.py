"""mmseg's segmentors, as ``init_model`` returns them, on a clip."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model

from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.zoom import ZoomSegmentor
from tests.messages import naming
from tests.video.toy_clip import panned

CLIP = panned([(0, 0), (4, 2), (8, 4)])
PLAIN = "demo/semantic_fpn.py"
PSPNET = "mmseg/r18_pspnet_1xb4-3k_camvid-240x320.py"


@pytest.fixture
def segmentor(config_file):
    """A segmentor of a shipped config with another test mode, head or preprocessor."""

    def build(name=PLAIN, **changes):
        cfg = Config.fromfile(config_file(name))
        cfg.merge_from_dict(changes)
        # mmseg's own way does not know this package's checks.
        cfg.test_pipeline = [step for step in cfg.test_pipeline if step.type != "CheckLabels"]
        torch.manual_seed(0)
        return init_model(cfg, device="cpu")

    return build


def same(one, other):
    assert torch.equal(one.seg_logits.data, other.seg_logits.data)
    assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.data_preprocessor.test_cfg": {"size_divisor": 32}},
        {"model.test_cfg": {"mode": "slide", "crop_size": (64, 64), "stride": (48, 48)}},
    ],
)
def test_key_frames_are_the_segmentor_itself(segmentor, changes):
    model = segmentor(**changes)
    stream = video.Stream(model, schedule=video.Every(1))
    for frame in (CLIP[0], CLIP[1][:75, :101]):
        same(stream(frame), inference_model(model, np.ascontiguousarray(frame[:, :, ::-1])))


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_logits_that_did_not_move_give_the_same_result(segmentor, mode):
    window = {"crop_size": (64, 64), "stride": (48, 48)} if mode == "slide" else {}
    stream = video.Stream(
        segmentor(**{"model.test_cfg": {"mode": mode, **window}}), propagation="copy"
    )
    first, again = stream(CLIP[0]), stream(CLIP[0])
    assert not stream.decision.key
    same(first, again)
    assert first is not again


def test_warped_logits_are_enlarged_afterwards(segmentor):
    stream = video.Stream(segmentor(), cut=None)
    first = stream(CLIP[0]).pred_sem_seg.data.clone()
    found = stream(CLIP[1])
    assert found.pred_sem_seg.data.shape == (1, *CLIP[0].shape[:2])
    assert found.seg_logits.data.isfinite().all()
    moved = found.pred_sem_seg.data[:, 8:-8, 8:-8] == first[:, 10:-6, 12:-4]
    assert moved.float().mean() > 0.8


@pytest.mark.parametrize("name", [PLAIN, PSPNET])
def test_heads_look_again_at_moved_features(segmentor, name):
    """A segmentor with a neck, and one without."""
    model, calls = segmentor(name), []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    stream = video.Stream(model, schedule=video.Every(3), moves="features", cut=None)
    expected = inference_model(model, np.ascontiguousarray(CLIP[0][:, :, ::-1]))
    calls.clear()
    same(stream(CLIP[0]), expected)
    still, moved = (stream(frame).seg_logits.data for frame in CLIP[:2])
    assert len(calls) == 1
    assert torch.allclose(still, expected.seg_logits.data, atol=1e-2)
    assert moved.shape == still.shape and not torch.allclose(moved, still, atol=0.1)
    macs = stream.decision.macs
    stream(CLIP[2])
    assert 0 < macs < stream.decision.macs


def test_of_windows_no_features_move(segmentor):
    window = {"mode": "slide", "crop_size": (64, 64), "stride": (48, 48)}
    stream = video.Stream(segmentor(**{"model.test_cfg": window}), moves="features")
    with pytest.raises(UserError, match=naming("neck", "times", "moves='result'")):
        stream(CLIP[0])
    with pytest.raises(UserError, match=naming("ZoomSegmentor", "moves='result'")):
        zoom = ZoomSegmentor(segmentor(), patch=32, scale=2, halo=8, rate=0.25)
        video.Stream(zoom, moves="features")


def test_a_red_square_arrives_red(segmentor):
    model, seen = segmentor(), []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[16:48, 32:64, 0] = 255
    video.Stream(model)(frame)
    video.Stream(model, format="BGR")(frame[:, :, ::-1])
    pre = model.data_preprocessor
    for image in seen:
        pixel = image[0, :, 30, 50] * pre.std.flatten() + pre.mean.flatten()
        assert pixel.round().tolist() == [255, 0, 0]


def test_a_segmentor_without_its_config_is_refused(segmentor):
    model = segmentor()
    del model.cfg
    with pytest.raises(UserError, match=naming("init_model")):
        video.Stream(model)


@pytest.mark.parametrize("channels", [None, 1])
def test_zoom_and_a_stream_multiply(segmentor, channels):
    one = {"model.decode_head.out_channels": 1, "model.decode_head.num_classes": 2}
    loss = {"model.decode_head.loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": True}}
    model = segmentor(**({**one, **loss} if channels == 1 else {}))
    zoom = ZoomSegmentor(model, patch=32, scale=2, halo=8, rate=0.25)
    stream = video.Stream(zoom, schedule=video.Every(2), cut=None)
    first = stream(CLIP[0])
    decisions = zoom.decisions
    plain = inference_model(model, np.ascontiguousarray(CLIP[0][:, :, ::-1]))
    assert not torch.equal(first.seg_logits.data, plain.seg_logits.data)
    assert stream.decision.macs == pytest.approx(float(decisions.macs[0]), rel=0.01)
    again = stream(CLIP[0])
    assert zoom.decisions is decisions and not stream.decision.key
    assert again.pred_sem_seg.data.shape == first.pred_sem_seg.data.shape
    assert (again.pred_sem_seg.data == first.pred_sem_seg.data).float().mean() > 0.99


def test_of_large_frames_a_zoom_has_labels_alone(segmentor, monkeypatch):
    monkeypatch.setattr("dynbackbones.zoom.segmentor.LOGITS_UP_TO", 10)
    zoom = ZoomSegmentor(segmentor(), patch=32, scale=2, halo=8, rate=0.25)
    copied = video.Stream(zoom, propagation="copy")
    first = copied(CLIP[0])
    assert torch.equal(copied(CLIP[1]).pred_sem_seg.data, first.pred_sem_seg.data)
    warped = video.Stream(zoom, cut=None)
    warped(CLIP[0])
    with pytest.raises(UserError, match=naming("propagation='copy'")):
        warped(CLIP[1])


def test_sar_and_a_stream_multiply(segmentor):
    model = segmentor("demo/sar_semantic_fpn.py")
    stream = video.Stream(model, schedule=video.Every(2))
    stream(CLIP[0])
    decisions = model.backbone.decisions
    assert stream.decision.macs > 0 and decisions.rate is not None
    stream(CLIP[1])
    assert model.backbone.decisions is decisions  # it did not run
