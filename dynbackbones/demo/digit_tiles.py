"""Digits one by one, to pretrain a classifier whose backbone then feeds the demo detector.

Scenes like the demo dataset's, cut into square tiles with one digit each: the same backgrounds,
strokes and colours. All ten classes of scikit-learn's samples are used, so that there is more to
learn than the five that the detector looks for; samples that the demo dataset validates with never
occur.
"""

from dataclasses import dataclass

import numpy as np

from dynbackbones.demo import digits, scenes

CLASSES = (*digits.CLASSES, "five", "six", "seven", "eight", "nine")
EDGE = 32  # pixels; scenes divide into such tiles
# The smaller of the digits that the demo detector sees. Tiles for the larger ones would be four
# times as dear, and a minute is too short to learn from so few.
DIGIT_HEIGHT = (20, 28)  # pixels
MAX_ANGLE = 12  # degrees
SPLITS = ("train", "val")
_VAL_SHARE = 0.2  # of each class's samples that the demo dataset trains with


@dataclass(frozen=True)
class Tiles:
    """Pictures (N, edge, edge, 3) uint8 RGB, their classes (N,), and the samples (N,) they show.

    ``boxes`` (N, 4) are the digits' top, left, height and width in pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    boxes: np.ndarray


def make_tiles(
    split: str,
    count: int,
    seed: int = digits.SEED,
    heights: tuple[float, float] = DIGIT_HEIGHT,
    edge: int = EDGE,
) -> Tiles:
    """Draws tiles, in seconds; the same arguments give the same tiles.

    Args:
        split: ``"train"`` or ``"val"``, of other digit samples.
        count: number of tiles.
        seed: of everything random but the division of samples, which is the demo dataset's.
        heights: of the smallest and the largest digit, in pixels; each is anywhere in its tile.
        edge: of a tile in pixels; scenes must divide into such tiles.

    Raises:
        ValueError: there is no such split, the count is below 1, or scenes do not divide.
        UserError: scikit-learn or Pillow is missing.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if edge < 1 or scenes.HEIGHT % edge or scenes.WIDTH % edge:
        raise ValueError(f"edge must divide {scenes.HEIGHT} and {scenes.WIDTH}, got {edge}")
    per_scene = (scenes.HEIGHT // edge) * (scenes.WIDTH // edge)
    images, labels = digits.load_samples(len(CLASSES))
    chosen = tile_samples(labels)[split]
    parts, boxes, shown = [], [], []
    for number in range(-(-count // per_scene)):
        rng = np.random.default_rng([seed, 3 + SPLITS.index(split), number])
        # Classes equally likely.
        wanted = rng.integers(0, len(CLASSES), per_scene)
        picked = [int(rng.choice(chosen[labels[chosen] == label])) for label in wanted]
        tiles, places = _scene_of_tiles(rng, images[picked], heights, edge)
        parts.append(tiles)
        boxes += places
        shown += picked
    shown = np.array(shown[:count])
    return Tiles(np.concatenate(parts)[:count], labels[shown], shown, np.array(boxes[:count]))


def tile_samples(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Divides the samples that the demo dataset trains with once more, class by class.

    Args:
        labels: (n,) class of each sample of all ten classes.

    Returns:
        Sample indices of "train" and "val": disjoint, and none of the demo dataset's val split.
    """
    # Classes are divided one after the other, so that the first five are as in the demo dataset.
    free = digits.split_samples(labels, digits.SEED)["train"]
    rng = np.random.default_rng([digits.SEED, 2])
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in np.unique(labels):
        indices = rng.permutation(free[labels[free] == label])
        num_val = round(_VAL_SHARE * len(indices))
        chosen["val"].append(indices[:num_val])
        chosen["train"].append(indices[num_val:])
    return {split: np.sort(np.concatenate(parts)) for split, parts in chosen.items()}


def _scene_of_tiles(
    rng: np.random.Generator, samples: np.ndarray, heights: tuple[float, float], edge: int
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """A background with a digit in each tile: (tiles, edge, edge, 3) uint8, and their boxes."""
    boxes = []
    image = scenes.background(rng)
    tiles = image.reshape(scenes.HEIGHT // edge, edge, scenes.WIDTH // edge, edge, 3)
    tiles = tiles.swapaxes(1, 2).reshape(-1, edge, edge, 3)  # a copy
    for tile, sample in zip(tiles, samples, strict=True):
        height = float(np.exp(rng.uniform(*np.log(heights))))
        ink = scenes.render(sample, height, rng.uniform(-MAX_ANGLE, MAX_ANGLE))[:edge, :edge]
        top, left = (int(rng.integers(0, edge - size + 1)) for size in ink.shape)
        place = slice(top, top + ink.shape[0]), slice(left, left + ink.shape[1])
        tile[place] = scenes.paint(rng, tile[place], ink)
        boxes.append((top, left, *ink.shape))
    noisy = tiles + rng.normal(0, rng.uniform(1, 5), tiles.shape)
    return noisy.round().clip(0, 255).astype(np.uint8), boxes
