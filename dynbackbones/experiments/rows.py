"""Rows of a comparison: what the ``variants`` of its config say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dynbackbones.errors import UserError

START, RATES, RUN = "_start_", "_rates_", "_run_"
_OPTIONS = (START, RATES, RUN)


@dataclass(frozen=True)
class Row:
    """A variant of the common config.

    Attributes:
        name: of the variant.
        overrides: of the common config, as ``--cfg-options`` writes them.
        start: the row whose trained weights, of the same seed, it starts from.
        rates: activation rates (block usages) that the trained network is calibrated to, on
            training images, and evaluated at.
        run: whether it is trained without being asked for by name.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    rates: tuple[float, ...] = ()
    run: bool = True

    @classmethod
    def read(cls, name: str, variant: Mapping[str, Any]) -> Row:
        """A row of what stands in a config, where its own options are between underscores.

        Raises:
            UserError: there is no such option, or its value is out of range.
        """
        options = {key: value for key, value in variant.items() if re.fullmatch("_.+_", key)}
        unknown = next((key for key in options if key not in _OPTIONS), None)
        if unknown:
            raise UserError(
                f"variant {name!r} has the option {unknown}; there are {', '.join(_OPTIONS)}"
            )
        rates = options.get(RATES, ())
        if not isinstance(rates, list | tuple) or not all(_is_share(rate) for rate in rates):
            raise UserError(
                f"variant {name!r}: {RATES} must be a list of numbers between 0 and 1, got {rates}"
            )
        return cls(
            name,
            {key: value for key, value in variant.items() if key not in options},
            options.get(START),
            tuple(rates),
            bool(options.get(RUN, True)),
        )

    @property
    def folder(self) -> str:
        """Name of the folder of its cells, below that of a seed."""
        return re.sub(r"\W+", "-", self.name).strip("-")

    def entries(self) -> list[tuple[str, float | None]]:
        """Lines of the table: as it was trained, and at each rate."""
        return [(self.name, None), *((self.at(rate), rate) for rate in self.rates)]

    def at(self, rate: float) -> str:
        """What the table calls it at a rate."""
        return f"{self.name}, rate {rate:g}"


def read_rows(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Row]:
    """Rows by their names, in order.

    Raises:
        UserError: an option of one is wrong, or it starts from what is not there.
    """
    rows = {name: Row.read(name, variant) for name, variant in variants.items()}
    for row in rows.values():
        if row.start is not None and row.start not in rows:
            raise UserError(
                f"variant {row.name!r}: {START} is {row.start!r}, which is no variant; there are "
                f"{', '.join(rows)}"
            )
        chain(rows, row.name)
    folders: dict[str, str] = {}
    for row in rows.values():
        other = folders.setdefault(row.folder, row.name)
        if other != row.name:
            raise UserError(
                f"variants {other!r} and {row.name!r} would share the folder {row.folder}; rename "
                "one"
            )
    return rows


def chain(rows: Mapping[str, Row], name: str) -> list[str]:
    """The rows that must be trained for one, from the first to itself.

    Raises:
        UserError: they start from each other.
    """
    names = [name]
    while (start := rows[names[0]].start) is not None:
        if start in names:
            raise UserError(
                f"variant {name!r} cannot start from {start!r}, which then starts from itself"
            )
        names.insert(0, start)
    return names


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
