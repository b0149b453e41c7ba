"""Several hooks under one name, so that a config names one and each has one job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner


class HookGroup(Hook):
    """Calls each of its parts wherever a runner calls it.

    Args:
        parts: in the order in which they are called; the group's priority is that of all.
    """

    def __init__(self, *parts: Hook) -> None:
        self.parts = parts

    def get_triggered_stages(self) -> list[str]:
        """The stages in which a part does something, for mmengine's list of hooks."""
        return sorted({stage for part in self.parts for stage in part.get_triggered_stages()})


def _call_parts(stage: str) -> Callable[..., None]:
    def call(self: HookGroup, runner: Runner, *args: Any, **kwargs: Any) -> None:
        for part in self.parts:
            getattr(part, stage)(runner, *args, **kwargs)

    return call


# Methods of all stages, before_run to after_run.
for _stage in Hook.stages:
    setattr(HookGroup, _stage, _call_parts(_stage))
