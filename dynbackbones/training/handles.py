"""Several hooks that come off together."""

from collections.abc import Iterable

from torch.utils.hooks import RemovableHandle


class Handles:
    """Undoes what placed several hooks.

    Args:
        handles: of the hooks.
    """

    def __init__(self, handles: Iterable["RemovableHandle | Handles"]) -> None:
        self._handles = list(handles)

    def remove(self) -> None:
        """Removes the hooks; removing twice does nothing."""
        while self._handles:
            self._handles.pop().remove()
