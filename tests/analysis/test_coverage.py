"""Coverage of objects by refined regions, against counts made by hand."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from dynbackbones.analysis.coverage import (
    RegionCounts,
    RegionCoverage,
    cells_in_image,
    cells_touching,
    count_regions,
    resize_boxes,
)

EDGES = torch.tensor([0, 16, 32, 40])  # three cells, the last one ragged


class FakeDecisions(SimpleNamespace):
    """Decisions of one stage with the cells of `EDGES` both ways."""

    def region_edges(self, stage):
        assert stage == "res2"
        return EDGES, EDGES


def decisions(masks, image_sizes):
    return FakeDecisions(masks={"res2": masks}, image_sizes=image_sizes)


def test_resized_boxes_scale_each_axis_by_its_own_factor():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    assert resize_boxes(boxes, (100, 50), (200, 25)).tolist() == [[5, 40, 15, 80]]


def test_cells_that_start_behind_the_image_lie_in_padding():
    # 17 rows of pixels reach one pixel into the second row of cells; 32 columns fill two cells.
    inside = cells_in_image(EDGES, EDGES, (17, 32))
    assert inside.tolist() == [[True, True, False], [True, True, False], [False] * 3]


def test_cells_without_pixels_do_not_count():
    edges = torch.tensor([0, 1, 1, 2])
    inside = cells_in_image(edges, torch.tensor([0, 2]), (2, 2))
    assert inside.flatten().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([16, 16, 32, 32], {(1, 1)}),  # exactly one cell: its edges touch no neighbour
        ([15.9, 16, 32, 32.1], {(1, 0), (1, 1), (2, 0), (2, 1)}),
        ([33, 1, 34, 2], {(0, 2)}),
        ([-5, -5, 100, 100], {(r, c) for r in range(3) for c in range(3)}),
        ([20, 20, 20, 30], set()),  # no area
        ([41, 0, 50, 50], set()),  # outside
    ],
)
def test_cells_touch_a_box_where_they_share_an_area(box, expected):
    touching = cells_touching(torch.tensor([box], dtype=torch.float), EDGES, EDGES)
    assert {tuple(cell) for cell in touching.nonzero().tolist()} == expected


def test_no_boxes_touch_nothing():
    assert not cells_touching(torch.zeros(0, 4), EDGES, EDGES).any()


def by_hand():
    """Two blocks, two groups, a 32 x 40 image (2 x 3 cells, the third row is padding)."""
    masks = torch.zeros(1, 2, 2, 3, 3, dtype=torch.bool)
    masks[0, 0, 0, 0] = True  # the first row: one of its three cells is on the object
    masks[0, 0, 1, 1, 1] = True  # beside the object
    masks[0, 1, 0, 0, 0] = True  # on the object
    masks[0, :, :, 2] = True  # padding, everywhere
    boxes = torch.tensor([[2.0, 2.0, 10.0, 20.0]])  # cells (0, 0) and (1, 0)
    return decisions(masks, [(32, 40)]), boxes


def test_counts_by_hand():
    counts = count_regions(*by_hand())["res2"]
    assert (counts.cells, counts.object_cells) == (6, 2)
    assert counts.refined.tolist() == [[3, 1], [1, 0]]
    assert counts.refined_object.tolist() == [[1, 0], [1, 0]]
    assert counts.activation_rate == pytest.approx(5 / 24)
    assert counts.object_share == pytest.approx(2 / 6)
    assert counts.refined_object_share == pytest.approx(2 / 5)
    assert counts.preference == pytest.approx((2 / 5) / (2 / 6))
    assert counts.block(1).refined_object_share == 1
    assert counts.block(1).preference == pytest.approx(3)


def test_datasets_sum_cells_and_do_not_average_ratios():
    chosen, boxes = by_hand()
    everything = decisions(torch.ones(1, 2, 2, 3, 3, dtype=torch.bool), [(40, 40)])
    coverage = RegionCoverage()
    coverage.update(chosen, [boxes])
    coverage.update(everything, [torch.zeros(0, 4)])
    counts = coverage.stages["res2"]
    assert coverage.images == 2
    assert counts.activation_rate == pytest.approx((5 + 36) / (24 + 36))
    assert counts.refined_object_share == pytest.approx(2 / (5 + 36))
    assert counts.object_share == pytest.approx(2 / (6 + 9))


def test_a_batch_equals_its_images_one_by_one():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 3, 2, 3, 3, generator=generator) < 0.5
    sizes = [(40, 20), (31, 40)]
    boxes = [torch.tensor([[0.0, 0.0, 18.0, 9.0]]), torch.tensor([[30.0, 15.0, 39.0, 17.0]])]
    together, apart = RegionCoverage(), RegionCoverage()
    together.update(decisions(masks, sizes), boxes)
    for i in range(2):
        apart.update(decisions(masks[i : i + 1], sizes[i : i + 1]), boxes[i : i + 1])
    assert together.to_dict() == apart.to_dict()


def test_nothing_refined_is_not_a_number_and_says_so():
    nothing = decisions(torch.zeros(1, 1, 1, 3, 3, dtype=torch.bool), [(40, 40)])
    coverage = RegionCoverage()
    coverage.update(nothing, [torch.tensor([[0.0, 0.0, 9.0, 9.0]])])
    counts = coverage.stages["res2"]
    assert counts.activation_rate == 0
    assert math.isnan(counts.refined_object_share) and math.isnan(counts.preference)
    assert coverage.table().splitlines()[-1].split() == [
        "res2", "0.0", "%", "n/a", "11.1", "%", "n/a",
    ]  # fmt: skip
    stage = json.loads(json.dumps(coverage.to_dict(), allow_nan=False))["stages"]["res2"]
    assert stage["refined_object_share"] is None


def test_no_objects_have_no_ratio():
    counts = RegionCounts(9, 0, torch.tensor([[4]]), torch.tensor([[0]]))
    assert counts.refined_object_share == 0
    assert math.isnan(counts.preference)


def test_the_table_has_a_line_for_each_block_on_request():
    coverage = RegionCoverage()
    chosen, boxes = by_hand()
    coverage.update(chosen, [boxes])
    stage, first, second = coverage.table(per_block=True).splitlines()[2:]
    assert stage.split() == ["res2", "20.8", "%", "40.0", "%", "33.3", "%", "1.20"]
    assert first.split()[:4] == ["block", "1", "33.3", "%"]
    assert second.split()[-1] == "3.00"


def test_a_backbone_without_regions_counts_images_only():
    coverage = RegionCoverage()
    coverage.update(SimpleNamespace(image_sizes=[(40, 40)]), [torch.zeros(0, 4)])
    coverage.update(None, [torch.zeros(0, 4)])
    assert coverage.to_dict() == {"images": 2, "stages": {}}
