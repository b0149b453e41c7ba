"""What classifiers that choose share with backbones that do, features apart."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dynbackbones.backbones.decisions import Decisions
from dynbackbones.backbones.scheduled import Scheduled
from dynbackbones.backbones.selections import Selects
from dynbackbones.backbones.traces import Traces
from dynbackbones.errors import UserError


def refuse_other_layouts(
    net: nn.Module, state: Mapping[str, Tensor], prefix: str, *rest: Any, names: tuple[str, ...]
) -> None:
    """State-dict pre-hook: weights remember a network's ``layout``, and others are refused.

    Args:
        net: with a buffer of that name.
        state, prefix, rest: see `torch.nn.Module.register_load_state_dict_pre_hook`.
        names: of the options in the buffer.

    Raises:
        UserError: the weights are of another one.
    """
    found = state.get(f"{prefix}layout")
    if found is not None and found.tolist() != net.layout.tolist():
        theirs, own = (
            ", ".join(f"{name}={value}" for name, value in zip(names, of.tolist(), strict=True))
            for of in (found, net.layout)
        )
        raise UserError(
            f"the weights are of {theirs}, but the network has {own}; build it with those of the "
            "weights"
        )


class DynamicClassifier(Selects, Scheduled, nn.Module):
    """Base of classifiers that choose what they look at.

    ``forward(images)`` maps (N, C, H, W) to (N, classes) log-probabilities and sets `decisions`.
    """

    def __init__(self) -> None:
        super().__init__()
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
    def thresholds(self) -> list[Tensor]:
        """Buffers that `dynbackbones.calibrate` moves; higher ones choose less."""
