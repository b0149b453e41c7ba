"""How many steps images take, as a metric of mmengine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class FocusUsage(BaseMetric):
    """Steps and MACs of a `GlanceFocus` classifier.

    ``steps`` (mean number, the glance among them), ``left_1`` and so on (share of the images that
    left after each), ``gmacs`` (10^9 multiply-accumulates) and ``gmacs_std``.
    """

    default_prefix = "focus"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes the decisions of a batch."""
        for sample in data_samples:
            most = len(sample["focus_confidences"])
            self.results.append((sample["focus_steps"], most, sample["macs"]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures over all images."""
        steps = torch.tensor([entry[0] for entry in results])
        gmacs = torch.tensor([entry[2] for entry in results], dtype=torch.float64) / 1e9
        left = {
            f"left_{step}": float((steps == step).float().mean())
            for step in range(1, results[0][1] + 1)
        }
        return {
            "steps": float(steps.float().mean()),
            **left,
            "gmacs": float(gmacs.mean()),
            "gmacs_std": float(gmacs.std(correction=0)),
        }
