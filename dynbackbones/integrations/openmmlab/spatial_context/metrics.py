"""How well a context module predicts, as a metric of mmengine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS

# Of R2 that offsets must bring at least, to be of use.
USED = 0.01


@METRICS.register_module()
class ContextError(BaseMetric):
    """R² of a `SpatialContextNetwork`'s predictions, and R² with offsets of other pairs.

    ``r2`` 0 is the mean target, 1 is perfect. If both are alike, the context alone tells what is
    told, and a warning says so; in distillation, where all offsets are 0, they must be.
    """

    default_prefix = "context"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Takes the errors of a batch."""
        targets = torch.stack([sample["target"] for sample in data_samples]).double().cpu()
        offsets = torch.stack([sample["offset"] for sample in data_samples])
        self.results.append(
            {
                "error": sum(sample["error"] for sample in data_samples),
                "shuffled": sum(sample["error_shuffled"] for sample in data_samples),
                "count": len(data_samples),
                "sum": targets.sum(dim=0),
                "squares": float(targets.square().sum()),
                "offsets": bool(offsets.any()),
            }
        )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures over all pairs."""
        total = {
            key: sum(entry[key] for entry in results)
            for key in ("error", "shuffled", "count", "sum", "squares", "offsets")
        }
        spread = total["squares"] - float(total["sum"].square().sum()) / total["count"]
        spread = max(spread, 1e-12)
        r2, shuffled = (1 - total[key] / spread for key in ("error", "shuffled"))
        if total["offsets"] and r2 - shuffled < USED:
            print_log(
                f"the offset is not used: r2 is {r2:.3f} with it and {shuffled:.3f} with those of "
                "other pairs; train longer, or see whether places tell anything in these images",
                logger="current",
                level=30,
            )
        return {"r2": r2, "r2_shuffled": shuffled}
