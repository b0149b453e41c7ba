"""What a stream did with a video, in figures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.video.agreement_measure import box_agreement, pixel_agreement
from dynbackbones.video.decisions import FrameDecision

T = TypeVar("T")


class Reservoir(Generic[T]):
    """Some of many things whose number nobody knows, each equally likely.

    Args:
        size: how many to keep.
        seed: of the choice.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self._seen, self._random = size, 0, random.Random(seed)
        self._kept: dict[int, T] = {}

    def place(self) -> int | None:
        """Where to put the next one; None to leave it out. Asked once for each."""
        self._seen += 1
        if self._seen <= self.size:
            return self._seen - 1
        place = self._random.randrange(self._seen)
        return place if place < self.size else None

    def put(self, place: int, item: T) -> None:
        """Keeps an item in the place of another."""
        self._kept[place] = item

    def items(self) -> Iterable[T]:
        """What was kept, in no order."""
        return self._kept.values()


def figures(decisions: Sequence[FrameDecision]) -> dict[str, Any]:
    """Keys, reasons, times and costs of a clip's frames, as plain data.

    Raises:
        ValueError: there are none.
    """
    if not decisions:
        raise ValueError("decisions must not be empty: run the stream on at least one frame")
    keys = [decision for decision in decisions if decision.key]
    others = [decision for decision in decisions if not decision.key]
    macs = [decision.macs for decision in decisions]
    known = None not in macs
    return {
        "frames": len(decisions),
        "keys": len(keys),
        "key_share": len(keys) / len(decisions),
        "key_frames": [decision.index for decision in keys],
        "reasons": dict(Counter(decision.reason for decision in decisions).most_common()),
        "milliseconds": {
            "all": _times(decisions),
            "computed": _times(keys),
            "propagated": _times(others),
        },
        "macs_per_frame": sum(macs) / len(macs) if known else None,
        "macs_of_the_model": sum(d.macs for d in keys) / len(keys) if known and keys else None,
    }


def agreement(
    shown: Prediction | Tensor, full: Prediction | Tensor, score: float = 0.5
) -> float:
    """How far what was shown agrees with the full model's result, in [0, 1].

    Args:
        shown, full: what was found, or (H, W) labels.
        score: of boxes, see `box_agreement`.
    """
    if isinstance(shown, Prediction):
        return box_agreement(shown, full, score)
    return pixel_agreement(shown, full)


def table(content: Mapping[str, Any]) -> str:
    """`figures` as text, with what is known of ``"agreement"``."""
    counted = ", ".join(f"{reason} {count}" for reason, count in content["reasons"].items())
    lines = [
        f"{content['frames']} frames, {content['keys']} of them computed "
        f"({content['key_share']:.1%}): {counted}",
        "",
        f"{'milliseconds':<16}{'mean':>10}{'p95':>10}{'max':>10}",
    ]
    for name, times in content["milliseconds"].items():
        if times is not None:
            cells = "".join(f"{times[key]:>10.1f}" for key in ("mean", "p95", "max"))
            lines.append(f"{name + ' frames':<16}{cells}")
    lines.append("")
    if content["macs_per_frame"] is not None:
        share = content["macs_per_frame"] / content["macs_of_the_model"]
        lines.append(
            f"MACs per frame in the mean: {content['macs_per_frame'] / 1e9:.3f} G, "
            f"{share:.3f} of the model's {content['macs_of_the_model'] / 1e9:.3f} G"
        )
    found = content.get("agreement")
    if found:
        lines.append(
            f"agreement with the full model ({found['measure']}): {found['mean']:.3f} on a sample "
            f"of {found['frames']} frames"
        )
        if found["propagated_frames"]:
            lines.append(
                f"  {found['propagated_mean']:.3f} on the {found['propagated_frames']} of them "
                "that were not computed"
            )
    return "\n".join(lines)


def spread_of(times: Sequence[float]) -> dict[str, float]:
    """``mean``, ``p95`` (the 95th percentile) and ``max`` of some times."""
    return {
        "mean": float(np.mean(times)),
        "p95": float(np.percentile(times, 95)),
        "max": float(max(times)),
    }


def _times(decisions: Sequence[FrameDecision]) -> dict[str, float] | None:
    return spread_of([d.milliseconds for d in decisions]) if decisions else None
