"""Digits whose places tell of each other, and digits whose places tell nothing: table 5.1 in small.

A context module predicts the features of a patch that it does not see, and a linear classifier says
which digit that is. Both streams are the digit teacher, frozen; validation scenes show samples
that nothing was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dynbackbones.demo import digits, ordered_scenes, scenes
from dynbackbones.experiments.context.digit_teacher import PATCH, digit_teacher
from dynbackbones.experiments.context.frozen import Pairs, Schedule, train_context
from dynbackbones.experiments.context.probe import Labelled, accuracy
from dynbackbones.experiments.steps import Cells
from dynbackbones.pretraining import Teacher, cut_patches, offsets_between

SCHEDULE = Schedule(epochs=20)
LAYOUTS = {"ordered": ordered_scenes.compose, "independent": scenes.compose}
# Scenes; independent ones have fewer digits.
COUNTS = {"ordered": {"train": 500, "val": 200}, "independent": {"train": 900, "val": 400}}
ROWS = {
    "own": "the patch's own features",
    "with": "predicted, with offsets",
    "without": "predicted, without offsets",
    "shuffled": "predicted, offsets shuffled among pairs",
    "both": "own features and predicted ones",
}
_SPLITS = ("train", "val")


class Scenes(NamedTuple):
    """Ordered pairs of the digits of each scene.

    Attributes:
        pairs: as features.
        labels: (N,) classes of the targets.
    """

    pairs: Pairs
    labels: Tensor


@dataclass
class DigitExperiment:
    """One layout and seed.

    Args:
        output: folder of the experiment.
        layout: of `LAYOUTS`.
        seed: of the scenes, their samples and the modules.
    """

    output: Path
    layout: str
    seed: int
    _made: dict[str, Scenes] = field(default_factory=dict, init=False)

    def run(self) -> dict[str, Any]:
        """Accuracies of all rows in percent, and errors of the predictions."""
        settings = {**vars(SCHEDULE), "counts": COUNTS[self.layout]}
        cells = Cells(self.output / f"seed{self.seed}", settings)
        made: dict[str, Callable[[], dict[str, Any]]] = {
            "own": self._own,
            **{name: self._predicting(name) for name in ("with", "without", "shuffled")},
        }
        results = {
            name: cells.made(f"digits-{self.layout}-{name}", make) for name, make in made.items()
        }
        results["both"] = {"accuracy": results["with"].pop("both")}
        return results

    def _scenes(self, split: str) -> Scenes:
        if not self._made:
            teacher, _ = digit_teacher(self.output)
            for name in _SPLITS:
                self._made[name] = digit_pairs(teacher, self.layout, name, self.seed)
        return self._made[split]

    def _own(self) -> dict[str, Any]:
        parts = [self._scenes(split) for split in _SPLITS]
        return {"accuracy": accuracy(*(Labelled(p.pairs.targets, p.labels) for p in parts))}

    def _predicting(self, name: str) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            parts = [self._scenes(split) for split in _SPLITS]
            pairs = [part.pairs for part in parts]
            if name == "shuffled":
                pairs = [part.shuffled(self.seed) for part in pairs]
            title = f"digits {self.layout}, seed {self.seed}, {name}"
            trained, _ = train_context(
                *pairs, SCHEDULE, seed=self.seed, title=title, use_offset=name != "without"
            )
            features = [trained.predict(part) for part in pairs]
            labels = [part.labels for part in parts]
            result = {"errors": trained.errors, "accuracy": _probed(features, labels)}
            if name == "with":
                scaled = [trained.scaling(part.targets) for part in pairs]
                both = [torch.cat(two, dim=1) for two in zip(scaled, features, strict=True)]
                result["both"] = _probed(both, labels)
            return result

        return make


def digit_pairs(teacher: Teacher, layout: str, split: str, seed: int) -> Scenes:
    """Draws scenes, and has the teacher look at their digits.

    Offsets are those of squares around the digits: the shape of a tight box says what is in it, as
    ones are narrow.
    """
    samples, labels = digits.load_samples()
    chosen = digits.split_samples(labels, digits.SEED)[split]
    samples, labels = samples[chosen], labels[chosen]
    context, targets, offsets, classes = [], [], [], []
    for number in range(COUNTS[layout][split]):
        rng = np.random.default_rng([seed, _SPLITS.index(split), number])
        scene = LAYOUTS[layout](rng, samples, labels)
        if len(scene.digits) < 2:
            continue
        boxes = np.array([digit.box for digit in scene.digits])
        boxes[:, 2:] += boxes[:, :2]
        features = teacher(cut_patches(scene.image, boxes, PATCH))
        i, j = np.nonzero(~np.eye(len(boxes), dtype=bool))
        squares = torch.from_numpy(squares_around(boxes))
        sizes = torch.tensor([scene.mask.shape]).expand(len(i), 2)
        offsets.append(offsets_between(squares[i], squares[j], sizes))
        targets.append(features[i])
        context.append(features[j])
        classes += [int(labels[scene.digits[k].sample]) for k in i]
    pairs = Pairs(torch.cat(context), torch.cat(offsets), torch.cat(targets))
    return Scenes(pairs, torch.tensor(classes))


def squares_around(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) squares with the centres and the longer edges of boxes (N, 4)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _probed(features: list[Tensor], labels: list[Tensor]) -> float:
    return accuracy(*(Labelled(*pair) for pair in zip(features, labels, strict=True)))
