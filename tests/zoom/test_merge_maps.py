import pytest
import torch
from torch.nn import functional as F

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.merge_maps import LogitRules, enlarged, merge_maps

SIZES = [((24, 32), (96, 128)), ((7, 5), (27, 19)), ((1, 1), (3, 2)), ((2, 9), (2, 9))]


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_a_part_is_that_of_the_whole(source, target, align_corners):
    maps = torch.randn(3, *source, generator=torch.Generator().manual_seed(0))
    options = {"mode": "bilinear", "align_corners": align_corners}
    whole = F.interpolate(maps[None], size=target, **options)[0]
    grid = PatchGrid(target, edge=10, halo=2)
    for x1, y1, x2, y2 in grid.cores:
        part = enlarged(maps, (x1, y1, x2, y2), target, align_corners)
        torch.testing.assert_close(part, whole[:, y1:y2, x1:x2], rtol=1e-5, atol=1e-5)


def test_double_precision_keeps_its_own():
    maps = torch.randn(2, 6, 7, dtype=torch.float64)
    whole = F.interpolate(maps[None], size=(25, 30), mode="bilinear", align_corners=False)[0]
    part = enlarged(maps, (3, 4, 30, 25), (25, 30), False)
    torch.testing.assert_close(part, whole[:, 4:25, 3:30], rtol=1e-12, atol=1e-12)


def test_patches_take_what_was_found_in_them():
    grid = PatchGrid((8, 8), edge=4, halo=0)
    coarse = torch.zeros(3, 2, 2)
    coarse[0] = 1
    logits = torch.zeros(3, 4, 4)
    logits[2, 1, 3] = 9
    merged = merge_maps(coarse, {1: logits}, grid, LogitRules(), keep=True)
    assert merged.labels[1, 7] == 2
    assert merged.labels.sum() == 2
    assert torch.equal(merged.logits[:, :4, 4:], logits)
    assert torch.equal(
        merged.logits[:, 4:], torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 4, 8)
    )
    labels = merge_maps(coarse, {1: logits.argmax(0)}, grid, LogitRules(), keep=False)
    assert labels.logits is None
    assert torch.equal(labels.labels, merged.labels)


def test_one_channel_has_two_classes():
    rules = LogitRules(threshold=0.3)
    logits = torch.tensor([[[-2.0, -0.5, 3.0]]])
    assert rules.labels(logits).tolist() == [[0, 1, 1]]
    probabilities = rules.probabilities(logits)
    assert probabilities.shape == (2, 1, 3)
    torch.testing.assert_close(probabilities[1], logits[0].sigmoid())
    torch.testing.assert_close(probabilities.sum(0), torch.ones(1, 3))
