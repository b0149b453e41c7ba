"""Whether images with more objects are given more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dynbackbones.analysis.spread import correlation

GROUPS = 5
"""Of images, at most, of which each has more objects than the one before."""


@dataclass(frozen=True)
class RatesByObjects:
    """The rate of each image beside the number of its objects.

    Attributes:
        name: of the rate, such as ``"activation_rate"``.
        objects: number of objects of each image.
        rates: of each image, in [0, 1].

    Raises:
        ValueError: there are no images, or the lengths differ.

    Example:
        >>> from dynbackbones.analysis import RatesByObjects
        >>> print(RatesByObjects("usage", [1, 1, 3], [0.2, 0.3, 0.6]).table())
        usage against objects of an image, correlation 0.97
        objects      images    usage
        1                 2    0.250
        3                 1    0.600
    """

    name: str
    objects: Sequence[int]
    rates: Sequence[float]

    def __post_init__(self) -> None:
        if not len(self.objects) or len(self.objects) != len(self.rates):
            raise ValueError(
                "objects and rates must be of the same images, at least one, got "
                f"{len(self.objects)} and {len(self.rates)}"
            )

    @property
    def correlation(self) -> float | None:
        """Pearson's coefficient; None where one of the two does not vary."""
        return correlation(torch.tensor(self.objects), torch.tensor(self.rates))

    def groups(self) -> list[dict[str, float]]:
        """Images with about as many objects, at most `GROUPS` groups of about equal size.

        Returns:
            Of each ``"least"`` and ``"most"`` objects, ``"images"`` and the mean ``"rate"``.
        """
        numbers = sorted(set(self.objects))
        if len(numbers) <= GROUPS:
            group_of = {number: index for index, number in enumerate(numbers)}
        else:  # equal numbers stay together
            fewer = {n: sum(count < n for count in self.objects) for n in numbers}
            group_of = {n: fewer[n] * GROUPS // len(self.objects) for n in numbers}
        found: dict[int, list[tuple[int, float]]] = {}
        for count, rate in zip(self.objects, self.rates, strict=True):
            found.setdefault(group_of[count], []).append((count, rate))
        return [
            {
                "least": min(count for count, _ in members),
                "most": max(count for count, _ in members),
                "images": len(members),
                "rate": sum(rate for _, rate in members) / len(members),
            }
            for _, members in sorted(found.items())
        ]

    def to_dict(self) -> dict:
        """All figures, for JSON."""
        return {"rate": self.name, "correlation": self.correlation, "groups": self.groups()}

    def table(self) -> str:
        """The groups as text, below the correlation."""
        name, found = self.name.replace("_", " "), self.correlation
        text = "not known" if found is None else f"{found:.2f}"
        width = max(len(name), 5)
        lines = [
            f"{name} against objects of an image, correlation {text}",
            f"{'objects':<12}{'images':>7}{name:>{width + 4}}",
        ]
        for group in self.groups():
            least, most = group["least"], group["most"]
            span = f"{least}" if least == most else f"{least} to {most}"
            lines.append(f"{span:<12}{group['images']:>7}{group['rate']:>{width + 4}.3f}")
        return "\n".join(lines)
