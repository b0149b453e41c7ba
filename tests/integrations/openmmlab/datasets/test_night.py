import numpy as np
import pytest

from dynbackbones.integrations.openmmlab.datasets.night import NightLook
from tests.messages import naming


def test_night_is_dark_and_always_the_same():
    image = np.full((40, 50, 3), 200, np.uint8)
    results = [NightLook(0.4, 10)({"img": image, "img_path": f"x/{n}.jpg"})["img"] for n in "aab"]
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    assert results[0].mean((0, 1)) == pytest.approx([100, 72, 56], abs=1)
    assert results[0].std((0, 1)) == pytest.approx([10, 10, 10], abs=1)
    assert image.min() == 200


@pytest.mark.parametrize("options", [{"brightness": 0}, {"brightness": 1.5}, {"noise": -1}])
def test_a_night_without_sense(options):
    with pytest.raises(ValueError, match=naming(**options)):
        NightLook(**options)
