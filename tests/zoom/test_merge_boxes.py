"""The rules by which a coarse pass and crops become one list."""

import torch

from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.merge_boxes import MergeRules, merge_boxes

GRID = PatchGrid((64, 128), 32, 8)  # 2 x 4 patches; the crop of patch 0 is (0, 0, 48, 48)
RULES = MergeRules(handover=16)


def boxes(*rows):
    """Rows of x1, y1, x2, y2, score, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4], table[:, 5].long())


def merged(coarse, fine, rules=RULES):
    result = merge_boxes(coarse, fine, GRID, rules)
    return {(*box, round(score, 2)) for box, score in zip(
        result.boxes.tolist(), result.scores.tolist(), strict=True
    )}  # fmt: skip


def test_small_coarse_boxes_give_way_where_it_was_looked():
    coarse = boxes((4, 4, 12, 12, 0.9, 0), (70, 4, 78, 12, 0.8, 0))
    assert merged(coarse, {0: boxes((4, 4, 11, 13, 0.5, 0))}) == {
        (4, 4, 11, 13, 0.5),
        (70, 4, 78, 12, 0.8),
    }


def test_what_is_not_found_again_closely_is_gone():
    assert merged(boxes((4, 4, 12, 12, 0.9, 0)), {0: boxes()}) == set()


def test_large_coarse_boxes_stay():
    assert merged(boxes((2, 2, 30, 30, 0.9, 0)), {0: boxes()}) == {(2, 2, 30, 30, 0.9)}


def test_in_the_halo_the_neighbour_decides_if_it_was_looked_at():
    fine = boxes((34, 4, 42, 12, 0.7, 0))  # centre in patch 1
    assert merged(boxes(), {0: fine}) == {(34, 4, 42, 12, 0.7)}
    own = boxes((34, 4, 42, 11, 0.6, 0))
    assert merged(boxes(), {0: fine, 1: own}) == {(34, 4, 42, 11, 0.6)}


def test_a_stump_gives_way_to_the_coarse_box_that_covers_it():
    coarse = boxes((20, 4, 60, 20, 0.4, 0))
    stump = boxes((20, 4, 47, 20, 0.9, 0))
    assert merged(coarse, {0: stump}) == {(20, 4, 60, 20, 0.4)}


def test_a_stump_keeps_a_small_coarse_box_that_would_have_gone():
    coarse = boxes((36, 4, 50, 14, 0.4, 0))  # centre in patch 1, as the crop of 0 cuts it off
    stump = boxes((36, 4, 48, 14, 0.9, 0))
    assert merged(coarse, {0: stump, 1: boxes()}, MergeRules(handover=100)) == set()
    assert merged(coarse, {0: stump}, MergeRules(handover=100)) == {(36, 4, 50, 14, 0.4)}


def test_a_stump_of_another_class_stays():
    coarse = boxes((20, 4, 60, 20, 0.4, 1))
    stump = boxes((20, 4, 47, 20, 0.9, 0))
    assert merged(coarse, {0: stump}) == {(20, 4, 60, 20, 0.4), (20, 4, 47, 20, 0.9)}


def test_the_image_edge_cuts_nothing_off():
    coarse = boxes((0, 0, 12, 12, 0.4, 0))
    assert merged(coarse, {0: boxes((0, 0, 11, 11, 0.9, 0))}) == {(0, 0, 11, 11, 0.9)}


def test_doubles_of_a_class_are_suppressed_whichever_pass_they_are_of():
    for low, high in ((0.4, 0.9), (0.9, 0.4)):
        coarse = boxes((34, 4, 44, 14, low, 0))
        fine = boxes((34, 4, 44, 13, high, 0))
        assert len(merged(coarse, {0: fine})) == 1
    assert len(merged(boxes((34, 4, 44, 14, 0.4, 1)), {0: boxes((34, 4, 44, 13, 0.9, 0))})) == 2


def test_the_best_are_kept():
    many = boxes(*[(i, 40, i + 0.5, 50, i / 100, 0) for i in range(30)])
    assert merged(many, {}, MergeRules(handover=16, most=2)) == {
        (29, 40, 29.5, 50, 0.29),
        (28, 40, 28.5, 50, 0.28),
    }


def test_nothing_at_all_merges_to_nothing():
    assert merged(boxes(), {}) == set()
    assert merged(boxes(), {patch: boxes() for patch in range(len(GRID))}) == set()
