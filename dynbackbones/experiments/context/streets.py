"""What the surroundings tell of a patch of a street: table 5.1 on CamVid's frames.

Patches are labelled by the class that most of their pixels have; their features are those of a
frozen teacher that knows ImageNet, which is the student too. Sequences are divided between training
and validation, since frames of one sequence are nearly the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynbackbones.data import read_image
from dynbackbones.data.proposals import pair_boxes, random_boxes
from dynbackbones.errors import UserError
from dynbackbones.experiments.context.frozen import Pairs, Schedule, train_context
from dynbackbones.experiments.context.probe import Labelled, accuracy, box_accuracy
from dynbackbones.experiments.steps import Cells
from dynbackbones.pretraining import Teacher, cut_patches, offsets_between
from dynbackbones.pretraining.imagenet_teacher import imagenet_teacher
from dynbackbones.training.progress import show_time_left

SCHEDULE = Schedule(epochs=10)
SPLITS = {"train": "source_day_train", "val": "source_day_val"}
BOXES, SIZES, MAX_IOU = 8, (48, 128), 0.2  # of a frame; edges in pixels
PATCH = 128
# Of linear classifiers: sequences differ, and what is learned must hold in others.
FREEDOM = 1e-3
ROWS = {
    "own": "the patch's own features",
    "with": "predicted, with offsets",
    "without": "predicted, without offsets",
    "boxes": "both boxes alone, by boosted trees",
    "frequent": "the most frequent class",
}
_IGNORED = 255


class Streets(NamedTuple):
    """Pairs of patches of the frames of a split.

    Attributes:
        pairs: as features.
        labels: (N,) classes of the targets.
        boxes: (N, 8) of target and context, as shares of the frame.
    """

    pairs: Pairs
    labels: Tensor
    boxes: Tensor


@dataclass
class StreetExperiment:
    """One seed.

    Args:
        output: folder of the experiment.
        root: of CamVid, with ``img_dir``, ``ann_dir`` and ``splits``.
        weights: of the teacher, see `imagenet_teacher`.
        seed: of boxes and modules.
    """

    output: Path
    root: Path
    weights: str | os.PathLike
    seed: int
    _made: dict[str, Streets] = field(default_factory=dict, init=False)

    def run(self) -> dict[str, Any]:
        """Accuracies of all rows in percent."""
        settings = {**vars(SCHEDULE), "boxes": BOXES, "sizes": SIZES, "patch": PATCH}
        settings["freedom"] = FREEDOM
        cells = Cells(self.output / f"seed{self.seed}", settings)
        made: dict[str, Callable[[], dict[str, Any]]] = {
            "own": self._own,
            "with": lambda: self._predicting(True),
            "without": lambda: self._predicting(False),
            "boxes": self._boxes,
            "frequent": self._frequent,
        }
        return {name: cells.made(f"streets-{name}", make) for name, make in made.items()}

    def _all(self) -> list[Streets]:
        if not self._made:
            teacher = imagenet_teacher(self.weights)
            for split in SPLITS:
                self._made[split] = street_pairs(teacher, self.root, split, self.seed)
        return list(self._made.values())

    def _own(self) -> dict[str, Any]:
        parts = self._all()
        return {"accuracy": _probed([part.pairs.targets for part in parts], parts)}

    def _predicting(self, use_offset: bool) -> dict[str, Any]:
        parts = self._all()
        pairs = [part.pairs for part in parts]
        title = f"streets, seed {self.seed}, {'with' if use_offset else 'without'} offsets"
        trained, _ = train_context(
            *pairs, SCHEDULE, seed=self.seed, title=title, use_offset=use_offset
        )
        features = [trained.predict(part) for part in pairs]
        return {"errors": trained.errors, "accuracy": _probed(features, parts)}

    def _boxes(self) -> dict[str, Any]:
        parts = [Labelled(part.boxes, part.labels) for part in self._all()]
        return {"accuracy": box_accuracy(*parts, self.seed)}

    def _frequent(self) -> dict[str, Any]:
        train, val = self._all()
        guess = train.labels.mode().values
        share = 100 * float((val.labels == guess).float().mean())
        return {"accuracy": share, "pairs": [len(train.labels), len(val.labels)]}


def street_pairs(teacher: Teacher, root: Path, split: str, seed: int) -> Streets:
    """Has the teacher look at patches anywhere in each frame.

    Raises:
        UserError: a file of the dataset is missing.
    """
    found: dict[str, list] = {name: [] for name in ("context", "offsets", "targets", "boxes")}
    labels: list[int] = []
    names = _names(root, SPLITS[split])
    title = f"streets, seed {seed}, {split}, patches of frame"
    for number, name in enumerate(show_time_left(names, len(names), title)):
        rng = np.random.default_rng([seed, list(SPLITS).index(split), number])
        image = np.asarray(read_image(root / "img_dir" / f"{name}.jpg"))
        mask = _mask(root / "ann_dir" / f"{name}.png")
        height, width = mask.shape
        sizes = rng.integers(*SIZES, size=BOXES, endpoint=True)
        boxes = np.concatenate([random_boxes(height, width, 1, int(s), rng) for s in sizes])
        classes = np.array([majority(mask, box) for box in boxes])
        i, j = pair_boxes(boxes, MAX_IOU).T
        i, j = i[classes[i] >= 0], j[classes[i] >= 0]
        features, corners = teacher(cut_patches(image, boxes, PATCH)), torch.from_numpy(boxes)
        frame = torch.tensor([[height, width]]).expand(len(i), 2)
        found["context"].append(features[j])
        found["targets"].append(features[i])
        found["offsets"].append(offsets_between(corners[i], corners[j], frame))
        shares = corners / torch.tensor([width, height, width, height])
        found["boxes"].append(torch.cat([shares[i], shares[j]], dim=1))
        labels += classes[i].tolist()
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    boxes = joined.pop("boxes")
    return Streets(Pairs(**joined), torch.tensor(labels), boxes)


def majority(mask: np.ndarray, box: np.ndarray) -> int:
    """The class of most of the labelled pixels in a box; -1 if half of them have none."""
    left, top, right, bottom = box.astype(int)
    counts = np.bincount(mask[top:bottom, left:right].ravel(), minlength=_IGNORED + 1)
    if 2 * counts[_IGNORED] > counts.sum():
        return -1
    return int(counts[:_IGNORED].argmax())


def _names(root: Path, split: str) -> list[str]:
    file = root / "splits" / f"{split}.txt"
    if not file.is_file():
        raise UserError(f"split file {file} does not exist; --camvid must name CamVid's folder")
    return file.read_text(encoding="utf-8").split()


def _mask(path: Path) -> np.ndarray:
    from PIL import Image

    if not path.is_file():
        raise UserError(f"label map {path} does not exist; --camvid must name CamVid's folder")
    return np.asarray(Image.open(path))


def _probed(features: list[Tensor], parts: list[Streets]) -> float:
    labels = [part.labels for part in parts]
    train, val = (Labelled(*pair) for pair in zip(features, labels, strict=True))
    return accuracy(train, val, FREEDOM)
