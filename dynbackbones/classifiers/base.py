"""What classifiers that choose share with backbones that do, features apart."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from dynbackbones.backbones.decisions import Decisions
from dynbackbones.backbones.traces import Traces


class DynamicClassifier(nn.Module):
    """Base of classifiers that choose what they look at.

    ``forward(images)`` maps (N, C, H, W) to (N, classes) log-probabilities and sets `decisions`.

    Attributes:
        progress: share of training done, set by `set_progress`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.progress = 0.0
        self._traces = Traces()

    @property
    def decisions(self) -> Decisions | None:
        """Decisions of this thread's last forward pass, detached; None before the first."""
        return self._traces.mine.decisions

    @property
    def selection(self) -> Any:
        """The override of the decisions that holds in this thread; None for the network's own."""
        return self._traces.mine.selection

    @abstractmethod
    def make_selection(self, kind: Any, rate: float, seed: int) -> Any:
        """What `select` puts in place of the decisions; arguments as there."""

    @abstractmethod
    def thresholds(self) -> list[Tensor]:
        """Buffers that `dynbackbones.calibrate` moves; higher ones choose less."""

    @contextmanager
    def select(self, kind: Any, *, rate: float = 0.5, seed: int = 0) -> Iterator[None]:
        """Overrides the decisions of this thread's forward passes inside.

        What decides still runs, so that MACs are those of a real decision.

        Args:
            kind: a name, see `PatchSelection`, or what ``decisions.choices()`` returned.
            rate: share to choose, for the kinds that need one.
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

    def set_progress(self, fraction: float) -> None:
        """Moves every schedule to a share of training done.

        Raises:
            ValueError: ``fraction`` is outside [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction of training must lie in [0, 1], got {fraction}")
        self.progress = float(fraction)
