import pytest
import torch

from dynbackbones.classifiers import PatchSelection
from dynbackbones.layers.regions import RegionGrid
from tests.messages import naming

GRID = RegionGrid((32, 32), grid_size=4)


def order(kind):
    """Patches (row, col) in the order in which a kind takes them."""
    taken = []
    for count in range(1, 17):
        policy = PatchSelection(kind, count / 16).policy(1, GRID)[0]
        (new,) = set(policy.nonzero().flatten().tolist()) - set(taken)
        taken.append(new)
    return [(index // 4, index % 4) for index in taken]


def test_fixed_orders_are_the_papers():
    assert order("horizontal") == [
        (1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3), (1, 0), (2, 0),
        (0, 0), (3, 0), (0, 1), (3, 1), (0, 2), (3, 2), (3, 3), (0, 3),
    ]  # fmt: skip
    assert order("vertical") == [(row, col) for col in (1, 2, 3, 0) for row in range(4)]
    assert order("first") == [(row, col) for row in range(4) for col in range(4)]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_fixed_orders_of_other_grids_begin_in_the_middle(size):
    grid = RegionGrid((30, 30), grid_size=size)
    for kind in ("horizontal", "vertical"):
        first = PatchSelection(kind, 1 / size**2).policy(1, grid)[0].view(size, size)
        assert first.sum() == 1
        axis = {"horizontal": 1, "vertical": 0}[kind]
        assert int(first.any(dim=axis).int().argmax()) == (size - 1) // 2


def test_stochastic_is_rarer_in_the_corners_and_drawn_for_each_image():
    policy = PatchSelection("stochastic", 0.25, seed=3).policy(4000, GRID)
    assert (policy.sum(dim=1) == 4).all() and len(policy.unique(dim=0)) > 100
    use = policy.float().mean(dim=0).view(4, 4)
    assert use[1:3, 1:3].min() > 1.5 * use[0, 0] > 0
    assert torch.equal(policy, PatchSelection("stochastic", 0.25, seed=3).policy(4000, GRID))


def test_region_kinds_choose_as_regions_do():
    assert PatchSelection("all").policy(2, GRID).all()
    assert not PatchSelection("none").policy(2, GRID).any()
    center = PatchSelection("center", 0.25).policy(1, GRID).view(4, 4)
    assert center[1:3, 1:3].all() and center.sum() == 4
    assert (PatchSelection("random", 0.5).policy(9, GRID).sum(dim=1) == 8).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "middle"}, ["'middle'", "stochastic"]),
        ({"kind": "first", "rate": 1.5}, ["rate", 1.5]),
        ({"kind": "first", "rate": -0.1}, ["rate", -0.1]),
        ({"kind": torch.full((16,), 2)}, ["0 and 1", "[2]"]),
        ({"kind": torch.zeros(1, 2, 3)}, ["(1, 2, 3)"]),
    ],
)
def test_wrong_selections_are_refused(options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        PatchSelection(**options)


def test_policies_for_other_grids_or_batches_are_refused():
    with pytest.raises(ValueError, match=naming("9 entries", "16 patches")):
        PatchSelection([1] * 9).policy(2, GRID)
    with pytest.raises(ValueError, match=naming("3 policies", "2 images")):
        PatchSelection(torch.ones(3, 16)).policy(2, GRID)
