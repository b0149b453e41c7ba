"""Patches tile an image, and their crops show each with a margin."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbackbones.layers.patches import PatchGrid
from tests.messages import naming

SIZES = st.integers(1, 300)
SETTINGS = settings(deadline=None, max_examples=40)


@SETTINGS
@given(SIZES, SIZES, st.integers(2, 80), st.data())
def test_cores_tile_the_image_and_crops_hold_them(height, width, edge, data):
    halo = data.draw(st.integers(0, edge - 1))
    grid = PatchGrid((height, width), edge, halo)
    covered = torch.zeros(height, width)
    for (x1, y1, x2, y2), crop in zip(grid.cores, grid.crops, strict=True):
        covered[y1:y2, x1:x2] += 1
        assert x1 < x2 and y1 < y2
        assert crop[0] <= x1 and crop[1] <= y1 and x2 <= crop[2] and y2 <= crop[3]
        assert crop[0] >= 0 and crop[1] >= 0 and crop[2] <= width and crop[3] <= height
        assert (crop[3] - crop[1], crop[2] - crop[0]) == grid.crop_size
    assert (covered == 1).all()
    assert len(grid) == len(grid.cores)


@SETTINGS
@given(SIZES, SIZES, st.integers(2, 80))
def test_a_point_belongs_to_the_core_that_holds_it(height, width, edge):
    grid = PatchGrid((height, width), edge, halo=edge // 4)
    corners = torch.tensor([[c[0] + 0.5, c[1] + 0.5] for c in grid.cores])
    assert grid.owners(corners).tolist() == list(range(len(grid)))


def test_points_outside_belong_to_the_nearest():
    grid = PatchGrid((64, 64), 32, 4)
    points = torch.tensor([[-5.0, -5.0], [70.0, 70.0], [70.0, 3.0]])
    assert grid.owners(points).tolist() == [0, 3, 1]


def test_a_strip_within_the_halo_costs_no_crop_of_its_own():
    assert PatchGrid((64, 64 + 8), 32, 8).shape == (2, 2)
    assert PatchGrid((64, 64 + 9), 32, 8).shape == (2, 3)


def test_means_and_maxima_are_those_of_each_core():
    grid = PatchGrid((64, 96), 32, 4)
    features = torch.rand(3, 16, 24)
    means, maxima = grid.pool(features, 4)
    assert torch.allclose(means[4], features[:, 8:, 8:16].mean(dim=(1, 2)))
    assert torch.equal(maxima[2], features[:, :8, 16:].amax(dim=(1, 2)))


@SETTINGS
@given(SIZES, SIZES, st.integers(2, 80), st.integers(1, 40))
def test_any_map_is_pooled_to_numbers(height, width, edge, stride):
    grid = PatchGrid((height, width), edge, 0)
    features = torch.rand(2, -(-height // stride), -(-width // stride))
    assert all(t.isfinite().all() for t in grid.pool(features, stride))


@pytest.mark.parametrize(
    ("size", "edge", "halo", "named"),
    [((0, 5), 4, 0, {"an": "0x5"}), ((5, 5), 0, 0, {"edge": 0}), ((5, 5), 4, 4, {"halo": 4})],
)
def test_impossible_grids_are_refused(size, edge, halo, named):
    words = [str(word) for pair in named.items() for word in pair]
    with pytest.raises(ValueError, match=naming(*words)):
        PatchGrid(size, edge, halo)
