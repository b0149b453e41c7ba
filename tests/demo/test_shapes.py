import numpy as np
import pytest

from dynbackbones.demo import shapes


@pytest.fixture(scope="module")
def pairs():
    return list(shapes.shape_pairs(0))


def offset(pair):
    boxes = np.array([pair.target, pair.context])
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_numbers_are_the_chapters(pairs):
    kinds = [shapes.KINDS[pair.kind] for pair in pairs]
    assert {kind: kinds.count(kind) for kind in shapes.KINDS} == shapes.COUNTS
    assert kinds[:300] != sorted(kinds)[:300]


def test_the_offset_tells_the_kind(pairs):
    for pair in pairs:
        centres = offset(pair)
        x, y = np.abs(centres[0] - centres[1])
        # Odd edges move a centre by half a pixel.
        near = shapes.NEAR + 1
        if shapes.KINDS[pair.kind] == "square":
            assert y <= near
        if shapes.KINDS[pair.kind] == "triangle":
            assert x <= near
        if shapes.KINDS[pair.kind] == "black":
            assert min(x, y) >= shapes.NEAR
        assert max(x, y) >= shapes.APART - 1


def test_shapes_are_where_their_boxes_are(pairs):
    for pair in pairs[:60]:
        outside = pair.image.astype(int)
        shares = []
        for left, top, right, bottom in (pair.context, pair.target):
            assert min(left, top) >= 0
            assert max(right, bottom) <= shapes.EDGE
            shares.append(pair.image[top:bottom, left:right].mean() / 255)
            outside[top:bottom, left:right] = 0
        assert outside.sum() == 0
        assert shares[0] == pytest.approx(np.pi / 4, abs=0.01)
        expected = {"square": 1, "triangle": 0.5, "black": 0}[shapes.KINDS[pair.kind]]
        assert shares[1] == pytest.approx(expected, abs=0.01)


def test_a_seed_gives_the_same_pairs(pairs):
    again = next(shapes.shape_pairs(0))
    assert np.array_equal(again.image, pairs[0].image)
    assert not np.array_equal(next(shapes.shape_pairs(1)).image, pairs[0].image)
