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
        gmacs: (N,) 10^9 multiply-accumulates of each image; None where nobody knows them.
        what: an image is called, such as ``"video"``.

    Raises:
        ValueError: there are no images, or the lengths differ.
    """

    name: str
    rates: Tensor
    gmacs: Tensor | None
    what: str = "image"

    def __post_init__(self) -> None:
        costs = len(self.rates if self.gmacs is None else self.gmacs)
        if not len(self.rates) or len(self.rates) != costs:
            raise ValueError(
                f"rates and gmacs must be of the same {self.what}s, at least one, got "
                f"{len(self.rates)} and {costs}"
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
        costs = {}
        if self.gmacs is not None:
            mean, std = self.gmacs.mean(), self.gmacs.std(correction=0)
            costs = {"gmacs": float(mean), "gmacs_std": float(std)}
        return {
            "rate": self.name,
            f"{self.what}s": len(self.rates),
            "mean": float(self.rates.mean()),
            "std": float(self.rates.std(correction=0)),
            "min": float(self.rates.min()),
            "max": float(self.rates.max()),
            **costs,
            "share_under": {
                f"{tenth / 10:g}": self.share_under(tenth / 10) for tenth in range(1, 11)
            },
            "histogram": self.counts(),
        }

    def table(self) -> str:
        """The histogram as text, a bar for each tenth that has images."""
        figures = self.to_dict()
        one = f"{'an' if self.what[0] in 'aeiou' else 'a'} {self.what}"
        lines = [
            f"{self.name.replace('_', ' ')} of {one} {figures['mean']:.3f} +- "
            f"{figures['std']:.3f} ({figures['min']:.3f} to {figures['max']:.3f})",
            f"{'rate':<12}{self.what + 's':>7}{'up to here':>12}",
        ]
        below = 0
        for tenth, count in enumerate(self.counts(10)):
            below += count
            if count:
                share = count / len(self.rates)
                lines.append(
                    f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f}  {share:>7.1%}"
                    f"{below / len(self.rates):>12.1%}  {'#' * round(40 * share)}"
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
    left, *right = figure.subplots(1, 1 if spread.gmacs is None else 2, squeeze=False)[0]
    left.bar([(i + 0.5) / BINS for i in range(BINS)], spread.counts(), width=0.9 / BINS)
    left.axvline(float(spread.rates.mean()), color="black", linewidth=1)
    left.set(xlim=(0, 1), xlabel=spread.name.replace("_", " "), ylabel=f"{spread.what}s")
    under = f"{spread.share_under(0.4):.1%} of the {spread.what}s under 0.4"
    left.set_title(under, fontsize=9)
    for axes in right:
        axes.hist(spread.gmacs.numpy(), bins=BINS, rwidth=0.9)
        axes.axvline(float(spread.gmacs.mean()), color="black", linewidth=1)
        axes.set(xlabel="10^9 multiply-accumulates", ylabel=f"{spread.what}s")
        axes.set_title(f"{float(spread.gmacs.mean()):.3g} on average", fontsize=9)
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
