import pytest
import torch
import torch.nn.functional as F

from dynbackbones.layers import RegionGrid, RegionSelector
from dynbackbones.layers.regions import activation_rates
from tests.messages import naming


def test_fixed_cells_leave_ragged_borders():
    grid = RegionGrid((10, 7), cell_size=4)
    assert grid.row_edges.tolist() == [0, 4, 8, 10]
    assert grid.col_edges.tolist() == [0, 4, 7]
    assert grid.areas[0].tolist() == [[16, 12], [16, 12], [8, 6]]


def test_expand_puts_every_pixel_into_its_cell():
    grid = RegionGrid((10, 7), cell_size=4)
    pixels = grid.expand(torch.arange(6).view(1, 1, 3, 2))[0, 0]
    for y in range(10):
        for x in range(7):
            assert pixels[y, x] == (y // 4) * 2 + x // 4


def test_grid_of_k_by_k_is_nearest_interpolation():
    mask = torch.rand(2, 3, 7, 7)
    grid = RegionGrid((45, 31), grid_size=7)
    torch.testing.assert_close(grid.expand(mask), F.interpolate(mask, size=(45, 31)))


@pytest.mark.parametrize(("size", "cell", "scale"), [((56, 56), 4, 2), ((14, 14), 7, 2)])
def test_pooling_is_adaptive_pooling_where_cells_divide_the_map(size, cell, scale):
    x = torch.randn(2, 3, size[0] // scale, size[1] // scale)
    grid = RegionGrid(size, cell_size=cell)
    torch.testing.assert_close(grid.average_pool(x, scale), F.adaptive_avg_pool2d(x, grid.shape))


def test_pooling_averages_exactly_the_pixels_of_a_ragged_cell():
    x = torch.randn(1, 2, 5, 4)  # scale 2 of a 9 x 7 map
    pooled = RegionGrid((9, 7), cell_size=4).average_pool(x, scale=2)
    assert pooled.shape == (1, 2, 3, 2)
    torch.testing.assert_close(pooled[..., 2, 1], x[..., 4:5, 2:4].mean((2, 3)))
    torch.testing.assert_close(pooled[..., 0, 0], x[..., 0:2, 0:2].mean((2, 3)))


def test_padding_counts_nowhere():
    sizes = torch.tensor([[8, 8], [5, 3]])
    grid = RegionGrid((8, 8), cell_size=4, valid_sizes=sizes)
    assert grid.valid[1].tolist() == [[True, False], [True, False]]
    assert grid.areas[1].tolist() == [[12, 0], [3, 0]]
    x = torch.randn(2, 1, 4, 4)
    pooled = grid.average_pool(x, scale=2)
    torch.testing.assert_close(pooled[1, 0, 0, 0], x[1, 0, :2, :2].mean())
    torch.testing.assert_close(pooled[1, 0, 1, 0], x[1, 0, 2, :2].mean())
    assert pooled[1, 0, :, 1].tolist() == [0, 0]
    torch.testing.assert_close(grid.image_mean(x, scale=2)[1], x[1, :, :3, :2].mean((1, 2)))


def test_activation_rates_count_cells_inside_the_image():
    valid = torch.tensor([[[True, True]], [[True, False]]])
    masks = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).view(2, 1, 1, 1, 2).expand(2, 3, 2, 1, 2)
    assert activation_rates(masks, valid).tolist() == [[0.5] * 3, [1.0] * 3]


def test_selector_starts_by_selecting_everything():
    selector = RegionSelector(8, groups=2, margin=9)
    grid = RegionGrid((16, 16), cell_size=4)
    logits = selector(torch.randn(2, 8, 8, 8), grid, scale=2)
    assert logits.shape == (2, 2, 4, 4, 2)
    assert selector.decide(logits).all()


def test_selector_threshold_moves_the_decision():
    selector = RegionSelector(8, groups=1)
    logits = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    assert selector.decide(logits).tolist() == [True, True, False]
    selector.threshold.fill_(2.0)
    assert selector.decide(logits).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, {"cell_size": None, "grid_size": None}),
        ({"cell_size": 4, "grid_size": 7}, {"cell_size": 4, "grid_size": 7}),
        ({"cell_size": 0}, {"cell_size": 0}),
    ],
)
def test_grid_refuses_wrong_options(options, named):
    with pytest.raises(ValueError, match=naming(**named)):
        RegionGrid((8, 8), **options)


def test_selector_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match=naming(8, groups=3)):
        RegionSelector(8, groups=3)
