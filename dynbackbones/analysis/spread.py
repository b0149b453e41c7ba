"""How the images of a dataset differ in what they are given: SAR's figure 5 for any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dynbackbones.analysis.canvas import DPI, import_matplotlib

BINS = 20
"""Of the histogram over rates from 0 to 1."""


@dataclass(frozen=True)
class RateSpread:
    """What each image was given.

    Attributes:
        name: of the rate, such as ``"activation_rate"``.
        rates: (N,) of each image, in [0, 1].
        gmacs: (N,) 10^9 multiply-accumulates of each image.

    Raises:
        ValueError: there are no images, or the lengths differ.
    """

    name: str
    rates: Tensor
    gmacs: Tensor

    def __post_init__(self) -> None:
        if not len(self.rates) or len(self.rates) != len(self.gmacs):
            raise ValueError(
                f"rates and gmacs must be of the same images, at least one, got "
                f"{len(self.rates)} and {len(self.gmacs)}"
            )

    @classmethod
    def of(cls, name: str, rates: Sequence[float], gmacs: Sequence[float]) -> RateSpread:
        """Of lists of figures."""
        return cls(name, *(torch.tensor(v, dtype=torch.float64) for v in (rates, gmacs)))

    def share_under(self, rate: float) -> float:
        """The share of the images whose rate is below this one."""
        return float((self.rates < rate - 1e-6).double().mean())

    def counts(self, bins: int = BINS) -> list[int]:
        """Number of images in each of equal intervals from 0 to 1; the last one includes 1."""
        index = ((self.rates + 1e-6) * bins).long().clamp(max=bins - 1)
        return torch.bincount(index, minlength=bins).tolist()

    def to_dict(self) -> dict:
        """All figures, for JSON."""
        return {
            "rate": self.name,
            "images": len(self.rates),
            "mean": float(self.rates.mean()),
            "std": float(self.rates.std(correction=0)),
            "min": float(self.rates.min()),
            "max": float(self.rates.max()),
            "gmacs": float(self.gmacs.mean()),
            "gmacs_std": float(self.gmacs.std(correction=0)),
            "share_under": {
                f"{tenth / 10:g}": self.share_under(tenth / 10) for tenth in range(1, 11)
            },
            "histogram": self.counts(),
        }

    def table(self) -> str:
        """The histogram as text, a bar for each tenth that has images."""
        figures = self.to_dict()
        lines = [
            f"{self.name.replace('_', ' ')} of an image {figures['mean']:.3f} +- "
            f"{figures['std']:.3f} ({figures['min']:.3f} to {figures['max']:.3f})",
            f"{'rate':<12}{'images':>7}{'up to here':>12}",
        ]
        below = 0
        for tenth, count in enumerate(self.counts(10)):
            below += count
            if count:
                share = count / figures["images"]
                lines.append(
                    f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f}  {share:>7.1%}"
                    f"{below / figures['images']:>12.1%}  {'#' * round(40 * share)}"
                )
        return "\n".join(lines)


def save_spread_picture(path: str | Path, spread: RateSpread) -> Path:
    """Writes a PNG with the histograms of the rates and of the multiply-accumulates.

    Args:
        path: of the PNG; its folder is created.
        spread: of the images.

    Returns:
        ``path``.

    Raises:
        UserError: matplotlib is not installed.
    """
    figure = import_matplotlib("matplotlib.figure").Figure(
        figsize=(8, 3), dpi=DPI, facecolor="white", layout="constrained"
    )
    left, right = figure.subplots(1, 2)
    left.bar([(i + 0.5) / BINS for i in range(BINS)], spread.counts(), width=0.9 / BINS)
    left.axvline(float(spread.rates.mean()), color="black", linewidth=1)
    left.set(xlim=(0, 1), xlabel=spread.name.replace("_", " "), ylabel="images")
    left.set_title(f"{spread.share_under(0.4):.1%} of the images under 0.4", fontsize=9)
    right.hist(spread.gmacs.numpy(), bins=BINS, rwidth=0.9)
    right.axvline(float(spread.gmacs.mean()), color="black", linewidth=1)
    right.set(xlabel="10^9 multiply-accumulates", ylabel="images")
    right.set_title(f"{float(spread.gmacs.mean()):.3g} on average", fontsize=9)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path


def correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson's coefficient of two figures of the same images; None where one does not vary."""
    pair = torch.stack([first.double(), second.double()])
    if len(first) < 2 or not (pair.std(dim=1) > 0).all():
        return None
    return float(torch.corrcoef(pair)[0, 1])
