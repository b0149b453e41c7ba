"""Training a second network inside a runner's model, with an optimiser group of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from dynbackbones.errors import UserError

CLIP_OPTIONS = ("max_norm", "norm_type")


class ConstantGroup:
    """A group of parameters in a runner's optimiser whose options no scheduler changes.

    Args:
        runner: with its optimiser and schedulers built; the optimiser gets the group.
        parameters: of the group.
        options: of the group, such as ``lr``; those not named are the optimiser's.
        clip_grad: ``max_norm`` and ``norm_type`` of the group's gradients, or None. (The
            ``clip_grad`` of the optimiser's wrapper counts the group among all parameters.)
        name: of the logged norm.

    Raises:
        UserError: the runner has several optimisers, or its optimiser has not these options.
    """

    def __init__(
        self,
        runner: Runner,
        parameters: list[nn.Parameter],
        options: Mapping[str, Any],
        clip_grad: Mapping[str, Any] | None,
        name: str,
    ) -> None:
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise UserError(
                "a style generator needs a run with one optimiser, and optim_wrapper has several "
                f"({', '.join(wrapper.optim_wrappers)})"
            )
        optimizer = wrapper.optimizer
        unknown = sorted(set(options) - set(optimizer.defaults))
        if unknown:
            raise UserError(
                f"gen_optim: {type(optimizer).__name__} has no option {unknown[0]!r}; it has "
                f"{', '.join(sorted(optimizer.defaults))}"
            )
        self._index = len(optimizer.param_groups)
        optimizer.add_param_group({"params": parameters, **options})
        group = optimizer.param_groups[self._index]
        self._options = {key: value for key, value in group.items() if key != "params"}
        self._tell_schedulers(runner)
        self._clip_grad = dict(clip_grad or {})
        self._name = name
        self._hub = runner.message_hub
        if self._clip_grad:
            optimizer.register_step_pre_hook(self._clip)

    def _tell_schedulers(self, runner: Runner) -> None:
        """Schedulers were made for the groups before, and keep values for each."""
        for scheduler in runner.param_schedulers or []:
            value = self._options.get(scheduler.param_name, scheduler.base_values[0])
            scheduler.base_values.insert(self._index, value)
            groups = scheduler.optimizer.param_groups
            first, group = groups[0], groups[self._index]
            group.setdefault(f"initial_{scheduler.param_name}", value)
            # OneCycleLR looks for its bounds here.
            for bound in ("max", "min"):
                key = f"{bound}_{scheduler.param_name}"
                if key in first:
                    group.setdefault(key, first[key])

    def restore(self, optimizer: torch.optim.Optimizer) -> None:
        """Undoes what schedulers, or a checkpoint with other options, made of the group."""
        # By its index: an optimiser that loads its state makes new groups.
        optimizer.param_groups[self._index].update(self._options)

    def _clip(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        parameters = optimizer.param_groups[self._index]["params"]
        # A fused optimiser undoes mixed precision's scale in its step; others have done so before.
        scaler = getattr(optimizer, "grad_scale", None)
        scale = 1.0 if scaler is None else float(scaler)
        options = {**self._clip_grad, "max_norm": self._clip_grad["max_norm"] * scale}
        norm = nn.utils.clip_grad_norm_(parameters, **options)
        self._hub.update_scalar(f"train/grad_norm_{self._name}", float(norm) / scale)
