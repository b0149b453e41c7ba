import numpy as np
import pytest
import torch
from matplotlib import image as reader

from dynbackbones.analysis import group_by_policy, save_policy_picture
from tests.messages import naming

POLICIES = torch.tensor([[1, 0], [1, 1], [1, 0], [0, 0], [1, 0], [1, 1]]).bool()


def grey(value):
    return np.full((4, 4, 3), value, dtype=np.uint8)


def greys_in(path):
    """The images' greys, row by row."""
    pixels = (reader.imread(path)[..., 0] * 255).round().astype(int)
    greys = []
    for line in pixels:
        values, counts = np.unique(line, return_counts=True)
        # Text comes in all greys, but not in so many dots of a line.
        wide = set(values[counts > 80].tolist()) - {255}
        greys += [v for v in dict.fromkeys(line.tolist()) if v in wide and v not in greys]
    return greys


def test_images_with_identical_policies_are_together_the_most_frequent_first():
    groups = group_by_policy(POLICIES)
    assert [(group.text, group.members) for group in groups] == [
        ("10", (0, 2, 4)), ("11", (1, 5)), ("00", (3,)),
    ]  # fmt: skip


def test_rows_of_the_picture_are_policies(tmp_path):
    images = [grey(value) for value in (10, 110, 20, 210, 30, 120)]
    path = save_policy_picture(tmp_path / "new" / "p.png", images, POLICIES, rows=2, columns=2)
    assert greys_in(path) == [10, 20, 110, 120]


def test_the_order_is_that_of_the_whole_dataset(tmp_path):
    whole = torch.cat([POLICIES, POLICIES[3:4].expand(4, 2)])
    images = [grey(value) for value in (10, 110, 20, 210, 30, 120)]
    path = save_policy_picture(tmp_path / "p.png", images, POLICIES, of=whole, columns=1)
    assert greys_in(path) == [210, 10, 110]


@pytest.mark.parametrize("count", [0, 2])
def test_policies_of_other_images_are_refused(tmp_path, count):
    with pytest.raises(ValueError, match=naming("policies", 6, count)):
        save_policy_picture(tmp_path / "p.png", [grey(1)] * count, POLICIES)
