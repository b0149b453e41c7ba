import numpy as np
import pytest

from dynbackbones.demo import digit_tiles, digits
from tests.messages import naming


@pytest.fixture(scope="module")
def tiles():
    return {split: digit_tiles.make_tiles(split, 96) for split in digit_tiles.SPLITS}


def demo_validation_samples():
    """Pixels of the digits that the demo dataset validates with."""
    images, labels = digits.load_samples()
    return {images[index].tobytes() for index in digits.split_samples(labels, digits.SEED)["val"]}


def test_tiles_show_digits_of_all_classes(tiles):
    images, labels = digits.load_samples(10)
    for part in tiles.values():
        assert part.images.shape == (96, digit_tiles.EDGE, digit_tiles.EDGE, 3)
        assert part.images.dtype == np.uint8
        assert set(part.labels) == set(range(10)) == set(range(len(digit_tiles.CLASSES)))
        assert np.array_equal(labels[part.samples], part.labels)
    assert len(images) == 1797


def test_nothing_that_the_demo_dataset_validates_with_is_shown(tiles):
    images, labels = digits.load_samples(10)
    held_out = demo_validation_samples()
    assert len(held_out) > 200
    for samples in digit_tiles.tile_samples(labels).values():
        assert not held_out & {images[index].tobytes() for index in samples}
    assert not held_out & {
        images[index].tobytes() for part in tiles.values() for index in part.samples
    }


def test_the_splits_share_no_sample(tiles):
    _, labels = digits.load_samples(10)
    split = digit_tiles.tile_samples(labels)
    assert not set(split["train"]) & set(split["val"])
    for name, part in tiles.items():
        assert set(part.samples) <= set(split[name])
        assert set(labels[split[name]]) == set(range(10))


def test_a_tile_is_a_digit_on_its_background(tiles):
    # Ink stands out: a tile varies more than the same place of a background.
    spread = tiles["train"].images.astype(float).mean(axis=3).std(axis=(1, 2))
    assert np.median(spread) > 15
    assert len({image.tobytes() for image in tiles["train"].images}) == 96


def test_tiles_repeat_and_do_not_depend_on_their_number(tiles):
    again = digit_tiles.make_tiles("train", 50)
    assert np.array_equal(again.images, tiles["train"].images[:50])
    other = digit_tiles.make_tiles("train", 50, seed=1)
    assert not np.array_equal(again.images, other.images)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=naming("train, val", split="test")):
        digit_tiles.make_tiles("test", 1)
    with pytest.raises(ValueError, match=naming(count=0)):
        digit_tiles.make_tiles("train", 0)


def test_digits_of_a_height_of_ones_choice_lie_in_their_boxes_anywhere():
    tiles = digit_tiles.make_tiles("train", 480, heights=(8, 11))
    top, left, height, width = tiles.boxes.T
    assert (height >= 7).all() and (height <= 14).all() and (width <= 14).all()
    assert (top >= 0).all() and (top + height <= digit_tiles.EDGE).all()
    for start, length in ((top, height), (left, width)):
        assert start.min() <= 1 and (start + length).max() >= digit_tiles.EDGE - 1
