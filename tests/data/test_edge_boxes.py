import numpy as np
import pytest

from dynbackbones.data.edge_boxes import edge_boxes, edge_groups
from dynbackbones.data.proposals import overlaps, random_boxes
from tests.messages import naming


def scene(seed):
    """Filled rectangles and discs on a plain ground, and their boxes."""
    generator = np.random.default_rng(seed)
    image = np.full((160, 220, 3), 120, np.uint8)
    y, x = np.mgrid[:160, :220]
    boxes = []
    for row in (0, 1):
        for column in (0, 1, 2):
            w, h = generator.integers(28, 56, size=2)
            left = column * 72 + generator.integers(4, 68 - w)
            top = row * 78 + generator.integers(4, 74 - h)
            shape = (x >= left) & (x < left + w) & (y >= top) & (y < top + h)
            if (row + column) % 2:
                shape &= ((x - left - w / 2) / w) ** 2 + ((y - top - h / 2) / h) ** 2 < 0.25
            image[shape] = generator.integers(0, 2, size=3) * 255
            boxes.append([left, top, left + w, top + h])
    return image, np.array(boxes, np.float32)


def recall(found, boxes):
    return (
        (overlaps(np.concatenate([boxes, found]))[: len(boxes), len(boxes) :] >= 0.5).any(1).mean()
    )


def test_objects_on_a_plain_ground_are_found_far_more_often_than_by_chance():
    ours, chance = [], []
    for seed in range(5):
        image, boxes = scene(seed)
        ours.append(recall(edge_boxes(image, 8).boxes, boxes))
        random = random_boxes(*image.shape[:2], 8, 42, np.random.default_rng(seed))
        chance.append(recall(random, boxes))
    assert np.mean(ours) >= 0.7 and np.mean(ours) >= np.mean(chance) + 0.3


def test_boxes_are_in_the_image_and_the_best_comes_first():
    image, _ = scene(0)
    found = edge_boxes(image, 5, max_aspect=1.5, min_size=20)
    assert found.boxes.shape == (5, 4) and found.scores.shape == (5,)
    assert (np.diff(found.scores) <= 0).all() and (found.scores > 0).all()
    assert (found.boxes >= 0).all() and (found.boxes <= [220, 160, 220, 160]).all()
    short, long = np.sort(found.boxes[:, 2:] - found.boxes[:, :2], axis=1).T
    assert (short >= 20).all() and (long <= 1.5 * short + 1e-3).all()
    again = edge_boxes(image, 5, max_aspect=1.5, min_size=20)
    assert np.array_equal(found.boxes, again.boxes)


def test_an_image_without_edges_or_smaller_than_a_box_has_none():
    assert edge_boxes(np.zeros((50, 60, 3), np.uint8)).boxes.shape == (0, 4)
    noise = np.random.default_rng(0).integers(0, 255, (12, 40, 3)).astype(np.uint8)
    assert edge_boxes(noise, min_size=16).boxes.shape == (0, 4)


def test_texture_has_weaker_edges_than_an_outline():
    image = np.full((100, 200, 3), 120, np.uint8)
    image[30:70, 30:70] = 255
    image[:, 100:] += np.random.default_rng(0).integers(0, 136, (100, 100, 3)).astype(np.uint8)
    groups = edge_groups(image)
    centre = (groups.boxes[:, 0] + groups.boxes[:, 2]) / 2
    longest = groups.strength[centre < 95].max()
    assert longest > 2 * np.quantile(groups.strength[centre > 105], 0.95)


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)])
def test_another_kind_of_image_is_named(image):
    with pytest.raises(ValueError, match=naming(image.shape, image.dtype)):
        edge_boxes(image)
