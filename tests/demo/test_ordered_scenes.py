import numpy as np
import pytest

from dynbackbones.demo import digits, ordered_scenes, scenes


@pytest.fixture(scope="module")
def drawn():
    samples, labels = digits.load_samples()
    rng = np.random.default_rng(0)
    return labels, [ordered_scenes.compose(rng, samples, labels) for _ in range(60)]


def grid(scene, labels):
    """(rows, columns) classes, by where the digits lie."""
    found = np.full((ordered_scenes.ROWS, ordered_scenes.COLUMNS), -1)
    for digit in scene.digits:
        x, y, width, height = digit.box
        row = int((y + height / 2) * ordered_scenes.ROWS / scenes.HEIGHT)
        column = int((x + width / 2) * ordered_scenes.COLUMNS / scenes.WIDTH)
        found[row, column] = labels[digit.sample]
    return found


def test_neighbours_follow_the_order_mostly(drawn):
    labels, pictures = drawn
    right, below = [], []
    for scene in pictures:
        classes = grid(scene, labels)
        assert (classes >= 0).all()
        right += ((classes[:, 1:] - classes[:, :-1]) % 5 == ordered_scenes.RIGHT).ravel().tolist()
        below += ((classes[1:] - classes[:-1]) % 5 == ordered_scenes.BELOW).ravel().tolist()
    # Both follow the order with 0.9, or by chance.
    assert np.mean(right) == pytest.approx(0.85, abs=0.08)
    assert np.mean(below) == pytest.approx(0.85, abs=0.08)


def test_every_class_is_anywhere(drawn):
    labels, pictures = drawn
    corners = [grid(scene, labels)[0, 0] for scene in pictures]
    assert sorted(set(corners)) == [0, 1, 2, 3, 4]
