import numpy as np
import pytest
import torch

import dynbackbones
from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.video import agreement
from dynbackbones.video.pairs import Pair, Seen
from dynbackbones.video.propagation import Opaque
from tests.messages import naming
from tests.video.toy_clip import FindsBox, SeesColours, panned

pytest.importorskip("cv2")
# Rests, then moves, then rests.
PLACES = [0] * 6 + [6 * t for t in range(1, 5)] + [24] * 6
CLIP = panned([(x, 0) for x in PLACES])


def test_what_is_described_grows_with_motion():
    pairs = [Pair(Seen(CLIP[0]), Seen(CLIP[t]), t, t) for t in (1, 7)]
    still, moved = (agreement.describe(pair) for pair in pairs)
    assert still.shape == (len(agreement.FEATURES),)
    values = zip(still.tolist(), moved.tolist(), strict=True)
    named = dict(zip(agreement.FEATURES, values, strict=True))
    for name in ("difference", "motion", "outside", "residual"):
        assert named[name][0] < named[name][1], name
    assert named["age"] == pytest.approx((0.1, 0.7))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (33, 35)])
def test_any_size_is_described(size):
    rng = np.random.default_rng(0)
    one, other = (Seen(rng.integers(0, 256, (*size, 3), np.uint8)) for _ in range(2))
    assert agreement.describe(Pair(one, other, 1, 1)).isfinite().all()


def test_a_model_is_its_own_teacher():
    model = SeesColours()
    samples = list(agreement.measure_agreement(model, CLIP, max_age=3))
    assert model.calls == len(CLIP)
    assert len(samples) == 3 * len(CLIP) - 6
    assert {(s.frame, s.age) for s in samples} == {
        (t, a) for t in range(len(CLIP)) for a in (1, 2, 3) if a <= t
    }
    resting = [s.agreement for s in samples if s.frame in (4, 5)]
    assert min(resting) > 0.99 and min(s.agreement for s in samples) < 0.97


def test_the_schedule_keeps_to_frames_that_changed(tmp_path):
    samples = list(agreement.measure_agreement(SeesColours(), CLIP, max_age=6))
    network = agreement.train_agreement(samples)
    agreement.save_agreement(network, tmp_path / "gate.pth")
    schedule = video.Agreement(tmp_path / "gate.pth")
    stream = video.Stream(SeesColours(), schedule=schedule, cut=None)
    reached = dynbackbones.calibrate(stream, CLIP, target_rate=5 / 16)
    reasons = stream.choices(CLIP)
    keys = [t for t, reason in enumerate(reasons) if reason != "propagated"]
    assert len(keys) == round(reached * 16) <= 6
    assert all(6 <= key <= 11 for key in keys[1:])


def test_a_calibration_looks_at_each_pair_once(monkeypatch):
    network = agreement.train_agreement(
        list(agreement.measure_agreement(SeesColours(), CLIP, max_age=8))
    )

    def met():
        stream = video.Stream(SeesColours(), schedule=video.Agreement(network), cut=None)
        reached = dynbackbones.calibrate(stream, CLIP, target_rate=4 / 16)
        return stream.schedule.threshold, reached, stream.choices(CLIP)

    seen, describe = [], agreement._described

    def note(pair):
        seen.append((pair.index - pair.age, pair.index))
        return describe(pair)

    with monkeypatch.context() as patched:
        patched.setattr(agreement, "_described", note)
        stream = video.Stream(SeesColours(), schedule=video.Agreement(network), cut=None)
        dynbackbones.calibrate(stream, CLIP, target_rate=4 / 16)
    assert len(seen) == len(set(seen)) > len(CLIP)
    with monkeypatch.context() as patched:
        patched.setattr(agreement, "describe", describe)
        plain = met()
    assert met() == plain


def test_boxes_have_an_agreement_too():
    samples = list(agreement.measure_agreement(FindsBox([50.0, 40, 80, 70]), CLIP, max_age=2))
    assert samples[0].agreement == 1
    assert min(s.agreement for s in samples) in (0, 1)


def test_nothing_is_known_of_other_results():
    with pytest.raises(UserError, match=naming("Shown")):
        list(agreement.measure_agreement(lambda image: 3, CLIP[:2], adapter=Other()))


class Shown(Opaque):
    def moved(self, pair):
        return self


class Other:
    def run(self, image):
        return 3, Shown(3)


def test_files_of_something_else_are_refused(tmp_path):
    torch.save({"model": {}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=naming(tmp_path / "other.pth")):
        video.Agreement(tmp_path / "other.pth")
    with pytest.raises(UserError, match=naming(tmp_path / "none.pth")):
        video.Agreement(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=naming("threshold", 2)):
        video.Agreement(agreement.AgreementNetwork(), 2)
    with pytest.raises(ValueError, match="empty"):
        agreement.train_agreement([])
