"""Features as what moves, on a detector whose backbone shifts exactly with its image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.segmentation import FCN

import dynbackbones
from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.video.adapters import adapter_of
from dynbackbones.video.features import FeatureAdapter, Features
from tests.messages import naming
from tests.video.toy_clip import FindsBox, SeesColours, panned, texture

CLIP = panned([(0, 0), (6, 4), (12, 8), (18, 12)])


class Patches(nn.Module):
    """Two levels, of 16 and 32 pixels a cell, which see nothing but their own pixels."""

    out_channels = 4

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 16, 16), nn.Conv2d(3, 4, 32, 32)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return {"fine": self.fine(images), "coarse": self.coarse(images)}


def detector(width=128, body=None):
    torch.manual_seed(0)
    anchors = AnchorGenerator(((16,), (32,)), ((1.0,),) * 2)
    model = RetinaNet(
        body or Patches(), 3, min_size=96, max_size=width, anchor_generator=anchors,
        score_thresh=0.0, detections_per_img=5,
    )  # fmt: skip
    nn.init.normal_(model.head.classification_head.cls_logits.weight)  # by default unsure of all
    return model.eval()


def stream(model, **options):
    return video.Stream(model, moves="features", **{"cut": None, **options})


def pair(image, flow):
    return SimpleNamespace(to_key=flow, frame=SimpleNamespace(image=image))


def constant_flow(size, x, y):
    return np.broadcast_to(np.float32([x, y]), (*size, 2)).copy()


def test_every_frame_is_the_model_itself():
    model = detector()
    moving = stream(model, schedule=video.Every(1))
    plain = video.Stream(model, schedule=video.Every(1))
    for frame in CLIP:
        (found,), (expected,) = moving(frame), plain(frame)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert moving.decision.key


def test_the_backbone_runs_on_keys_alone_and_the_heads_on_all():
    model, heads = detector(), []
    model.head.register_forward_hook(lambda *_: heads.append(1))
    moving = stream(model, schedule=video.Every(2))
    scores = [moving(frame)[0]["scores"] for frame in CLIP]
    assert (model.backbone.calls, len(heads)) == (2, 4)
    assert not torch.equal(scores[0], scores[1])  # they have looked again
    assert list(model.backbone.children()) and type(model.backbone) is Patches


def test_a_copied_frame_shows_the_result_of_the_key():
    moving = stream(detector(), propagation="copy")
    (first,), (again,) = moving(CLIP[0]), moving(CLIP[1])
    assert not moving.decision.key
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("width", [128, 120])  # the second one is padded to the first
@pytest.mark.parametrize("shift", [(32, 0), (-32, 32), (0, -64)])
def test_a_shift_by_whole_cells_is_exact_inside(width, shift):
    x, y = shift
    large = texture(96 + 128, width + 128)
    key = large[64:160, 64 : 64 + width]
    later = large[64 - y : 160 - y, 64 - x : 64 - x + width]
    adapter = FeatureAdapter(adapter_of(detector(width)))
    with torch.no_grad():
        (_, kept), (_, expected) = adapter.run(key.copy()), adapter.run(later.copy())
    moved = kept.moved(pair(later, constant_flow((96, width), -x, -y)))
    for name, stride in (("fine", 16), ("coarse", 32)):
        rows, columns = slice(max(0, y) // stride, (96 + min(0, y)) // stride), slice(
            max(0, x) // stride, (width + min(0, x)) // stride
        )
        inside = (slice(None), slice(None), rows, columns)
        assert moved.values[name][inside].numel()
        assert torch.allclose(moved.values[name][inside], expected.values[name][inside], atol=1e-4)
        assert not torch.allclose(kept.values[name], expected.values[name], atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    inside=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_what_stands_still_stays_and_padding_always_does(size, cells, inside):
    values = torch.rand(1, 2, *cells)
    image = np.zeros((*size, 3), np.uint8)
    kept = Features([values], inside, image)
    still = kept.moved(pair(image, constant_flow(size, 0, 0))).values[0]
    assert torch.allclose(still, values, atol=1e-5)
    far = kept.moved(pair(image, constant_flow(size, 1000, -1000))).values[0]
    rows, columns = (int(np.ceil(n * s - 1e-6)) for n, s in zip(cells, inside, strict=True))
    padding = torch.ones(cells, dtype=torch.bool)
    padding[:max(1, rows), :max(1, columns)] = False
    assert torch.equal(far[..., padding], values[..., padding])
    corner = values[:, :, 0, max(1, columns) - 1]  # what lies outside is continued by the border
    assert torch.allclose(far[:, :, 0, 0], corner, atol=1e-5)


def test_heads_are_what_a_moved_frame_costs():
    model = detector()
    moving, plain = stream(model, schedule=video.Every(2)), video.Stream(model)
    moving(CLIP[0]), plain(CLIP[0])
    whole = moving.decision.macs
    assert whole == plain.decision.macs
    moving(CLIP[1])
    body = 96 * 128 * 3 * 4 * 2  # both convolutions see each pixel once
    assert not moving.decision.key and moving.decision.macs == whole - body
    calls = model.backbone.calls
    target = whole - body / 2
    dynbackbones.calibrate(moving, CLIP, target_macs=target)
    assert moving.schedule.k == 2 and model.backbone.calls == calls
    with pytest.raises(ValueError, match=naming("target_macs", "heads")):
        dynbackbones.calibrate(moving, CLIP, target_macs=whole - body)


def test_sizes_cuts_and_unreadable_frames_are_as_ever():
    moving = stream(detector(), schedule=video.Every(9), cut=0.2)
    small = texture(64, 64)
    dark = np.zeros_like(small)
    found = []
    for frame in (CLIP[0], CLIP[1], small, None, small, dark, dark):
        moving(frame)
        found.append(moving.decision.reason)
    expected = ["first", "propagated", "size", "unreadable", "recovery", "cut", "propagated"]
    assert found == expected


def test_a_learned_schedule_sees_what_the_heads_make_of_it():
    from dynbackbones.video import agreement

    model = detector()
    model.score_thresh = 0.5
    nn.init.constant_(model.head.classification_head.cls_logits.bias, 0.0)
    adapter = FeatureAdapter(adapter_of(model))
    still = [CLIP[0]] * 3
    samples = list(agreement.measure_agreement(model, still, adapter=adapter))
    assert [sample.agreement for sample in samples] == [1.0] * 3
    away = [CLIP[0], np.ascontiguousarray(CLIP[0][::-1])]
    (sample,) = agreement.measure_agreement(model, away, adapter=adapter)
    assert sample.agreement < 1


def test_features_with_nan_are_never_shown():
    model = detector()
    nn.init.constant_(model.backbone.coarse.bias, float("nan"))
    with pytest.raises(UserError, match=naming("frame 0", "NaN")):
        stream(model)(CLIP[0])


@pytest.mark.parametrize("model", [SeesColours(), FindsBox([1.0, 1, 9, 9])])
def test_a_model_without_known_parts_is_refused(model):
    with pytest.raises(UserError, match=naming("moves='features'", "moves='result'")):
        stream(model)


class Tokens(Patches):
    """Gives what is no map, too."""

    def forward(self, images):
        return {"out": self.fine(images), "tokens": self.coarse(images).flatten(2)}


class LooksTwice(RetinaNet):
    """Sees a frame and its reflection."""

    def forward(self, images, targets=None):
        super().forward([image.flip(-1) for image in images])
        return super().forward(images)


def test_what_cannot_be_moved_is_refused_by_name():
    with pytest.raises(UserError, match=naming("backbone", "FCN", "(1, 4, 12)")):
        stream(FCN(Tokens(), nn.Identity()))(CLIP[0])
    model = detector()
    model.__class__ = LooksTwice
    with pytest.raises(UserError, match=naming("backbone", "LooksTwice", "2 times")):
        stream(model)(CLIP[0])
    del model.backbone
    with pytest.raises(UserError, match=naming("LooksTwice", "'backbone'")):
        stream(model)
    with pytest.raises(ValueError, match=naming("moves", "boxes")):
        video.Stream(model, moves="boxes")
