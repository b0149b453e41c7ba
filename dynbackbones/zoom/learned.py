"""A policy that was trained on what closer looks were worth."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.zoom.policies import CoarsePass, entropy, score

_FORMAT = "zoom policy"
_QUANTILES = 1000


def describe(coarse: CoarsePass, num_classes: int) -> Tensor:
    """What a policy sees of each patch: (P, D) float32.

    Means and maxima of the model's features over the patch; of a detector, for each class, the sum
    and the largest of the scores found there and their number; of a segmentor, for each class, the
    share of its pixels, and its entropy.

    Args:
        coarse: the coarse pass.
        num_classes: of the model; a detector's labels are counted from 0 or from 1.

    Raises:
        UserError: the model gives no features.
    """
    if coarse.features is None:
        raise UserError("a learned policy needs the model's features, and this model gives none")
    parts = list(coarse.grid.pool(coarse.features.float(), coarse.stride))
    if coarse.boxes is not None:
        parts += _of_boxes(coarse, num_classes)
    else:
        maps = coarse.probabilities.float()
        parts += [coarse.grid.pool(maps, coarse.probability_stride)[0]]
    return torch.cat([*parts, entropy(coarse)[:, None]], dim=1)


def _of_boxes(coarse: CoarsePass, num_classes: int) -> list[Tensor]:
    boxes = coarse.boxes
    owners = coarse.grid.owners(boxes.centres)
    places = owners * (num_classes + 1) + boxes.labels.clamp(0, num_classes)
    shape = len(coarse.grid), num_classes + 1
    empty = torch.zeros(shape[0] * shape[1], device=boxes.scores.device)
    values = boxes.scores.float()
    sums = empty.index_add(0, places, values)
    largest = empty.scatter_reduce(0, places, values, "amax")
    return [sums.view(shape), largest.view(shape), score(coarse)[:, None]]


class LearnedPolicy(nn.Module):
    """Predicts what a closer look at a patch gains: two layers on what `describe` says of it.

    Args:
        inputs: numbers for each patch.
        num_classes: of the model.
        settings: what the gains were measured with, such as patch, scale and halo; a zoom with
            others refuses the policy.
        hidden: width of the layer between.
    """

    def __init__(
        self, inputs: int, num_classes: int, settings: dict[str, Any], hidden: int = 64
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.settings = dict(settings)
        self.hidden = hidden
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.register_buffer("values", torch.zeros(_QUANTILES + 1))
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, coarse: CoarsePass) -> Tensor:
        """(P,) expected gains."""
        return self.predict(describe(coarse, self.num_classes))

    def predict(self, described: Tensor) -> Tensor:
        """(P, D) of `describe` to (P,)."""
        # Half precision would drop differences between patches.
        with torch.autocast(described.device.type, enabled=False):
            return self.layers((described.float() - self.mean) / self.std)[:, 0]

    def set_values(self, predicted: Tensor) -> None:
        """Keeps how expected gains are spread over patches that it was not trained on: (n,)."""
        shares = torch.linspace(0, 1, _QUANTILES + 1)
        self.values.copy_(predicted.float().quantile(1 - shares))

    def threshold_at(self, rate: float) -> float:
        """The expected gain that this share of all patches exceeds, over images as in training."""
        if rate in (0, 1):
            return math.inf if rate == 0 else -math.inf
        return float(self.values[round(rate * _QUANTILES)])

    def check_settings(self, **expected: float) -> None:
        """Refuses a zoom with other settings than the gains were measured with.

        Raises:
            UserError: one that the policy knows differs.
        """
        for name, value in expected.items():
            if self.settings.get(name, value) != value:
                raise UserError(
                    f"the policy was trained with {name} {self.settings[name]}, not {value}; "
                    "measure gains and train it anew, or set it back"
                )

    def macs(self, patches: int) -> int:
        """Multiply-accumulates for that many patches."""
        return patches * sum(m.weight.numel() for m in self.layers if isinstance(m, nn.Linear))

    def save(self, path: str | os.PathLike) -> None:
        """Writes weights and settings into a file for `load_policy`."""
        meta = {
            "format": _FORMAT,
            "inputs": len(self.mean),
            "num_classes": self.num_classes,
            "hidden": self.hidden,
            "settings": self.settings,
        }
        checkpoints.save(path, self.state_dict(), meta)


def load_policy(path: str | os.PathLike) -> LearnedPolicy:
    """Reads a policy.

    Args:
        path: of a file of `LearnedPolicy.save`.

    Raises:
        UserError: it is something else.
    """
    content = checkpoints.load(path)
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        raise UserError(f"{path} is no zoom policy; dynbackbones zoom train writes one")
    policy = LearnedPolicy(meta["inputs"], meta["num_classes"], meta["settings"], meta["hidden"])
    policy.load_state_dict(checkpoints.state_dict_of(content, f"policy {path}"))
    return policy.eval()
