import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dynbackbones
from dynbackbones import video
from dynbackbones.errors import UserError
from tests.messages import naming
from tests.video.toy_clip import FindsBox, SeesColours, panned, texture

STILL = [texture()] * 6


def reasons(stream, clip, **options):
    found = []
    for frame in clip:
        stream(frame, **options)
        found.append(stream.decision.reason)
    return found


def test_every_frame_is_the_model_itself():
    model, clip = SeesColours(), panned([(3 * t, t) for t in range(4)])
    stream = video.Stream(model, schedule=video.Every(1))
    for frame in clip:
        assert torch.equal(stream(frame), model(frame))
        assert (stream.decision.key, stream.decision.age) == (True, 0)


@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 5), length=st.integers(1, 9))
def test_the_model_runs_on_key_frames_alone(k, length):
    model = SeesColours()
    stream = video.Stream(model, schedule=video.Every(k), propagation="copy", cut=None)
    decisions = []
    for frame in panned([(t, 0) for t in range(length)]):
        stream(frame)
        decisions.append(stream.decision)
    assert model.calls == -(-length // k)
    assert [d.age for d in decisions] == [t % k for t in range(length)]
    assert [d.index for d in decisions] == list(range(length))
    assert all(d.milliseconds > 0 for d in decisions)
    assert all(d.macs == 0 for d in decisions if not d.key)


def test_copying_shows_the_result_of_the_key():
    clip = panned([(0, 0), (8, 0)])
    stream = video.Stream(SeesColours(), propagation="copy")
    first = stream(clip[0])
    expected = first.clone()
    first.zero_()  # a caller may do with it what it likes
    assert torch.equal(stream(clip[1]), expected)
    assert stream.decision.reason == "propagated"


def test_warped_maps_are_what_the_model_would_have_said():
    model, clip = SeesColours(), panned([(0, 0), (8, 4)])
    errors = {}
    for way in ("copy", "warp"):
        stream = video.Stream(model, propagation=way, cut=None)
        stream(clip[0])
        inside = (slice(None), slice(4, -4), slice(4, -4))
        errors[way] = (stream(clip[1]) - model(clip[1]))[inside].abs().mean()
    assert errors["warp"] < 0.15 * errors["copy"]


def test_boxes_move_with_what_is_in_them():
    clip = panned([(0, 0), (6, -4), (40, 0)])
    stream = video.Stream(FindsBox([50.0, 40, 80, 70]), max_age=5, cut=None)
    stream(clip[0])
    moved = stream(clip[1])
    assert torch.allclose(moved.boxes, torch.tensor([[44.0, 44, 74, 74]]), atol=1)
    assert moved.scores.tolist() == pytest.approx([0.9]) and moved.labels.tolist() == [1]


def test_an_unknown_result_is_copied_and_never_moved():
    stream = video.Stream(lambda image: {"mean": float(image.mean())}, propagation="copy")
    assert stream(STILL[0]) == stream(STILL[1])
    stream = video.Stream(lambda image: {"mean": float(image.mean())})
    stream(STILL[0])
    with pytest.raises(UserError, match=naming("propagation='copy'", "dict")):
        stream(STILL[1])


@pytest.mark.parametrize("format", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["hwc", "chw", "tensor"])
def test_a_red_square_arrives_red(format, layout):
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[8:24, 8:24, 0 if format == "RGB" else 2] = 255
    if layout != "hwc":
        frame = frame.transpose(2, 0, 1)
    if layout == "tensor":
        frame = torch.from_numpy(frame.copy())
    found = video.Stream(SeesColours(), format=format)(frame)
    assert found.flatten(1).sum(1).tolist() == [255 * 16, 0, 0]


def test_a_camera_may_write_into_its_buffer_again():
    clip = panned([(0, 0), (8, 4)])
    buffer = clip[0].copy()
    one, other = (video.Stream(SeesColours(), cut=None) for _ in range(2))
    one(clip[0])
    other(buffer)
    buffer[:] = clip[1]
    assert torch.equal(one(clip[1]), other(buffer))


def test_what_forces_a_key():
    clip = [texture(seed=0)] * 4
    assert reasons(video.Stream(SeesColours(), max_age=1), clip) == [
        "first",
        "propagated",
        "age",
        "propagated",
    ]
    small = texture(48, 64)
    stream = video.Stream(SeesColours(), schedule=video.Every(9))
    assert reasons(stream, [*clip[:2], small, small]) == [
        "first",
        "propagated",
        "size",
        "propagated",
    ]
    dark, light = np.zeros_like(clip[0]), np.full_like(clip[0], 255)
    stream = video.Stream(SeesColours(), schedule=video.Every(9))
    assert reasons(stream, [dark, light, light]) == ["first", "cut", "propagated"]


def test_a_new_video_begins_with_a_key():
    stream = video.Stream(SeesColours(), schedule=video.Every(9))
    reasons(stream, STILL[:3])
    stream(STILL[0], new_video=True)
    assert (stream.decision.reason, stream.decision.index) == ("first", 0)
    stream.reset()
    assert stream.decision is None
    stream(STILL[0])
    assert stream.decision.reason == "first"


def test_gaps_in_time_force_a_key():
    stream = video.Stream(SeesColours(), schedule=video.Every(9), max_gap=0.5)
    found = []
    for seconds in (0.0, 0.1, 0.2, 1.0, 1.1):
        stream(STILL[0], seconds=seconds)
        found.append(stream.decision.reason)
    assert found == ["first", "propagated", "propagated", "gap", "propagated"]


@pytest.mark.parametrize("later", [0.5, 1.0, float("nan")])
def test_times_that_do_not_rise_are_ignored_with_a_warning(later):
    stream = video.Stream(SeesColours(), schedule=video.Every(9))
    stream(STILL[0], seconds=1.0)
    with pytest.warns(UserWarning, match=naming("frame 1")):
        stream(STILL[1], seconds=later)
    assert stream.decision.reason == "propagated"


def test_unreadable_frames_show_the_last_result_and_the_next_is_a_key():
    clip = panned([(2 * t, 0) for t in range(4)])
    stream = video.Stream(SeesColours(), schedule=video.Every(9))
    first = stream(clip[0])
    shown = stream(None)
    assert torch.equal(shown, first)
    assert (stream.decision.key, stream.decision.reason) == (False, "unreadable")
    assert stream.decision.age == 1 and stream.decision.macs == 0
    stream(clip[2])
    assert (stream.decision.reason, stream.decision.index) == ("recovery", 2)
    with pytest.raises(UserError, match="first frame"):
        video.Stream(SeesColours())(None)


def test_a_failed_frame_leaves_the_stream_as_it_was():
    model, clip = SeesColours(), panned([(t, 0) for t in range(4)])
    failing = {"now": False}

    def sometimes(image):
        if failing["now"]:
            raise RuntimeError("out of memory")
        return model(image)

    one = video.Stream(sometimes, schedule=video.Every(2))
    other = video.Stream(model, schedule=video.Every(2))
    for index, frame in enumerate(clip):
        if index == 2:
            before = one.decision
            failing["now"] = True
            with pytest.raises(RuntimeError):
                one(frame)
            assert one.decision is before
            failing["now"] = False
        assert torch.equal(one(frame), other(frame))


def test_nan_is_never_shown_to_later_frames():
    stream = video.Stream(lambda image: torch.full((2, 4, 4), float("nan")))
    with pytest.raises(UserError, match=naming("frame 0", "NaN")):
        stream(STILL[0])
    assert stream.decision is None


def test_strict_refuses_another_size():
    stream = video.Stream(SeesColours(), strict=True)
    stream(texture(64, 64))
    with pytest.raises(ValueError, match=naming("(32, 64)", "(64, 64)", "strict=True")):
        stream(texture(32, 64))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_frames_are_refused(frame):
    with pytest.raises(ValueError, match=naming("frame", str(frame.shape))):
        video.Stream(SeesColours())(frame)


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (11, 13), (5, 300), (97, 131)])
def test_any_size_works(size):
    clip = [texture(max(size[0], 8), max(size[1], 8), seed=s)[: size[0], : size[1]] for s in (0, 1)]
    stream = video.Stream(SeesColours(), schedule=video.Every(9), cut=None)
    stream(clip[0])
    assert stream(clip[1]).shape[1:] == (-(-size[0] // 4), -(-size[1] // 4))
    assert not stream.decision.key


@pytest.mark.parametrize(
    "option, value",
    [
        ("propagation", "flow"),
        ("flow", "slow"),
        ("format", "GBR"),
        ("max_age", -1),
        ("max_gap", 0.0),
        ("cut", 2.0),
        ("schedule", 5),
    ],
)
def test_wrong_options_are_named(option, value):
    with pytest.raises(ValueError, match=naming(option, value)):
        video.Stream(SeesColours(), **{option: value})


def test_what_is_no_model_is_refused():
    with pytest.raises(UserError, match="int"):
        video.Stream(3)


def test_two_streams_share_a_model_and_copies_stand_alone():
    model = SeesColours()
    clips = [panned([(t * s, 0) for t in range(4)]) for s in (1, 3)]
    alone = []
    for clip in clips:
        stream = video.Stream(model, schedule=video.Every(3), cut=None)
        alone.append([stream(frame) for frame in clip])
    streams = [video.Stream(model, schedule=video.Every(3), cut=None) for _ in clips]
    for index in range(4):
        for stream, clip, expected in zip(streams, clips, alone, strict=True):
            assert torch.equal(stream(clip[index]), expected[index])
    copied = copy.deepcopy(streams[0])
    streams[0](clips[1][0])
    copied(clips[0][3])
    assert copied.decision.index == 4


def test_a_copy_counts_its_own_model():
    class Predictor:
        calls = 0

        def predict(self, image):
            self.calls += 1
            return torch.from_numpy(image).permute(2, 0, 1).float()

    predictor = Predictor()
    copied = copy.deepcopy(video.Stream(predictor))
    copied(STILL[0])
    assert copied.decision.macs == 0 and predictor.calls == 0


def test_calibration_meets_a_share_without_running_the_model():
    clip = panned([(int(10 * np.sin(t / 3)), t % 7) for t in range(60)])
    for schedule in (video.Difference(0.3), video.Every(2), video.Random(0.9)):
        model = SeesColours()
        stream = video.Stream(model, schedule=schedule, cut=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sixty frames have coarse shares
            reached = dynbackbones.calibrate(stream, clip, target_rate=0.25)
        assert model.calls == 0
        assert reached == pytest.approx(0.25, abs=0.08)
        keys = sum(r != "propagated" for r in reasons(stream, clip))
        assert keys / len(clip) == pytest.approx(reached)


def test_calibration_warns_of_what_it_cannot_meet():
    stream = video.Stream(SeesColours(), schedule=video.Difference(0.1), max_age=1)
    with pytest.warns(UserWarning, match=naming("0.500", "0.1")):
        assert dynbackbones.calibrate(stream, STILL, target_rate=0.1) == 0.5


def test_calibration_refuses_what_it_cannot_do():
    stream = video.Stream(SeesColours(), schedule=video.Keys([0, 2]))
    with pytest.raises(ValueError, match=naming("Keys([0, 2])")):
        dynbackbones.calibrate(stream, STILL, target_rate=0.5)
    stream = video.Stream(SeesColours())
    with pytest.raises(ValueError, match="target_rate"):
        dynbackbones.calibrate(stream, STILL)
    with pytest.raises(ValueError, match=naming("target_rate", 0.0)):
        dynbackbones.calibrate(stream, STILL, target_rate=0.0)
    with pytest.raises(ValueError, match="empty"):
        dynbackbones.calibrate(stream, [], target_rate=0.5)
    with pytest.raises(ValueError, match="MACs"):
        dynbackbones.calibrate(stream, STILL, target_macs=1e9)
    with pytest.raises(ValueError, match="target_ms"):
        dynbackbones.calibrate(stream, STILL, target_ms=5)


def test_frames_that_cannot_be_read_count_before_as_they_do_in_the_stream():
    read = panned([(t, 0) for t in range(18)])
    clip = [video.Frame(None if t % 3 == 2 else frame) for t, frame in enumerate(read)]
    for schedule in (video.Every(5), video.Keys([0, 6, 7]), video.Random(0.3)):
        stream = video.Stream(SeesColours(), schedule=schedule, propagation="copy")
        expected = stream.choices(clip)
        assert reasons(stream, clip) == expected
        assert "unreadable" in expected and "recovery" in expected
    stream = video.Stream(SeesColours(), schedule=video.Every(9), propagation="copy")
    reached = dynbackbones.calibrate(stream, clip, target_rate=1 / 3)
    keys = sum(r not in ("propagated", "unreadable") for r in reasons(stream, clip))
    assert keys / len(clip) == pytest.approx(reached)
    with pytest.raises(UserError, match="first frame"):
        stream.choices([video.Frame(None), *clip])
