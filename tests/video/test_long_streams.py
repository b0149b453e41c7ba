"""Many frames of changing sizes leave no memory behind (`make long-runs`: 10,000)."""

import pytest

from dynbackbones import video
from tests.backbones.test_long_runs import CALLS, FACTOR, GROWTH, RESIDENT, grown
from tests.video.toy_clip import SeesColours, texture

pytest.importorskip("cv2")


@pytest.mark.parametrize("propagation", ["copy", "warp"])
def test_frames_of_changing_sizes_leave_nothing_behind(propagation):
    frames = [texture(40 + 8 * (n % 3), 48 + 8 * (n % 5), seed=n) for n in range(15)]
    stream = video.Stream(
        SeesColours(), schedule=video.Difference(0.1), propagation=propagation, cut=None
    )
    reasons = set()

    def step(call):
        stream(frames[(call // 2) % 15])  # each twice, so that the second one is propagated
        reasons.add(stream.decision.reason)

    tensors, objects, size = grown(step)
    assert reasons == {"first", "size", "propagated"}
    assert tensors <= 2 and objects < GROWTH and size < RESIDENT, CALLS * FACTOR
