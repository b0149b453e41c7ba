"""Overriding the decisions of a network: for a block of code, and what all overrides check."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dynbackbones.backbones.traces import Traces


class Selects:
    """What overrides its decisions where `select` says so, in that thread alone."""

    _traces: Traces

    @abstractmethod
    def make_selection(self, kind: Any, rate: float, seed: int) -> Any:
        """What `select` puts in place of the decisions; arguments as there.

        Raises:
            ValueError: one of them has a wrong value.
        """

    @contextmanager
    def select(self, kind: Any, *, rate: float = 0.5, seed: int = 0) -> Iterator[None]:
        """Overrides the decisions of this thread's forward passes inside: ablations, tests.

        What decides still runs, so that time and MACs are those of a real decision.

        Args:
            kind: ``"all"``, ``"none"``, ``"random"`` and what else the network's selection knows;
                or choices as `Decisions.choices` returns them.
            rate: share to compute, for the kinds that need one.
            seed: of the kinds that draw.

        Raises:
            ValueError: one of them has a wrong value.
        """
        mine = self._traces.mine
        before, mine.selection = mine.selection, self.make_selection(kind, rate, seed)
        try:
            yield
        finally:
            mine.selection = before


def check_kind(kind: object, kinds: Sequence[str], given: str) -> None:
    """Makes sure that a selection's kind is known.

    Args:
        kind: what was asked for.
        kinds: what is known by name.
        given: what may stand in place of a name, such as ``"a dict of masks"``.

    Raises:
        ValueError: it is not.
    """
    if kind not in kinds:
        raise ValueError(f"selection must be one of {', '.join(kinds)} or {given}, got {kind!r}")


def check_rate(rate: float) -> None:
    """Makes sure that a selection's rate lies in [0, 1].

    Raises:
        ValueError: it does not.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie in [0, 1], got {rate}")
