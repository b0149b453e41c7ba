"""What forward passes leave behind and what holds for them, for each thread."""

import threading
from typing import Any

from torch import Tensor

from dynbackbones.backbones.decisions import Decisions, Size
from dynbackbones.backbones.guidance import Guidance


class Trace:
    """What a forward pass leaves behind, and what contexts around it say."""

    def __init__(self) -> None:
        self.decisions: Decisions | None = None
        self.image_sizes: list[Size] | None = None
        self.guidance: Guidance | None = None
        self.losses: dict[str, Tensor] = {}
        self.selection: Any = None
        self.records_auxiliary = True


class Traces(threading.local):
    """The trace of each thread's last forward pass; a copy of a network starts without any.

    Its one attribute never changes: the compiler follows writes to a plain object, and drops those
    to a thread's own attributes.
    """

    def __init__(self) -> None:
        self.mine = Trace()

    def __deepcopy__(self, memo: dict) -> "Traces":
        return Traces()

    def __reduce__(self) -> tuple:
        return Traces, ()
