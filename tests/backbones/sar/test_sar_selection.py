import pytest
import torch

import dynbackbones
from dynbackbones.backbones.sar.selection import RegionSelection
from dynbackbones.layers import RegionGrid
from tests.messages import naming


def masks_of(kind, rate, size=(56, 56), images=2, seed=0, valid_sizes=None):
    grid = RegionGrid(size, cell_size=4, valid_sizes=valid_sizes)
    return RegionSelection(kind, rate, seed).masks("res2", images, 3, 2, grid)


@pytest.mark.parametrize("kind", ["center", "uniform", "random"])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_rate_is_met(kind, rate):
    masks = masks_of(kind, rate)
    assert masks.shape == (2, 3, 2, 14, 14)
    assert masks.float().mean().item() == pytest.approx(rate, abs=0.05)


def test_all_and_none():
    assert masks_of("all", 0.1).all()
    assert not masks_of("none", 0.9).any()


def test_random_depends_on_seed_image_block_and_group():
    first = masks_of("random", 0.5, seed=1)
    assert torch.equal(first, masks_of("random", 0.5, seed=1))
    assert not torch.equal(first, masks_of("random", 0.5, seed=2))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(first[:, :, 0], first[:, :, 1])


def test_center_is_in_the_middle_of_the_image_not_of_its_padding():
    masks = masks_of("center", 0.25, valid_sizes=torch.tensor([[56, 56], [28, 28]]))
    rows, cols = masks[0, 0, 0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (3, 9, 3, 9)
    rows, cols = masks[1, 0, 0].nonzero(as_tuple=True)
    assert rows.max() < 7 and cols.max() < 7
    assert masks[1, 0, 0, 3, 3]


@pytest.mark.parametrize("kind", ["all", "uniform", "random"])
def test_padding_is_never_selected(kind):
    masks = masks_of(kind, 0.7, valid_sizes=torch.tensor([[56, 56], [20, 30]]))
    assert not masks[1, :, :, 5:].any() and not masks[1, :, :, :, 8:].any()


def test_given_masks_replace_the_decisions():
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    images = torch.randn(2, 3, 64, 64)
    with net.select("random", rate=0.5, seed=3):
        net(images)
    masks = net.decisions.masks
    with net.select(masks):
        net(images)
    assert all(torch.equal(masks[name], net.decisions.masks[name]) for name in masks)
    net(images)
    own = net.decisions.masks
    assert not all(torch.equal(masks[name], own[name]) for name in masks)


def test_selection_as_constructor_argument():
    net = dynbackbones.build_backbone("sar_resnet18", selection="none").eval()
    net(torch.randn(1, 3, 64, 64))
    assert net.decisions.activation_rate.item() == 0


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"res3": torch.ones(1)}, ("selection", "'res2'", ["res3"])),
        ({"res2": torch.ones(5, 5)}, ("selection['res2']", (5, 5))),
        ({"res2": torch.full((1,), 0.5)}, ("selection['res2']", 0, 1)),
    ],
)
def test_wrong_masks(selection, words):
    net = dynbackbones.build_backbone("sar_resnet18").eval()
    with pytest.raises(ValueError, match=naming(*words)), net.select(selection):
        net(torch.randn(1, 3, 64, 64))


def test_wrong_rate():
    with pytest.raises(ValueError, match=naming(rate=1.5)):
        RegionSelection("random", rate=1.5)


def test_center_of_a_grid_that_is_finer_than_the_map():
    grid = RegionGrid((10, 10), grid_size=20)
    masks = RegionSelection("center", 0.5).masks("res2", 1, 1, 1, grid)
    rate = masks.sum() / grid.valid.sum()
    assert rate.item() == pytest.approx(0.5, abs=0.1)
