"""Optimiser and learning-rate schedule from detectron2's SOLVER keys."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode
from mmengine.optim import AmpOptimWrapper, OptimWrapper, _ParamScheduler
from torch import nn

from dynbackbones.errors import UserError
from dynbackbones.integrations.config import lr_factors
from dynbackbones.training.auxiliary import own_parameters

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> OptimWrapper:
    """SGD, with mixed precision and gradient clipping where ``SOLVER`` asks for them.

    Raises:
        UserError: mixed precision without CUDA.
    """
    solver = cfg.SOLVER
    optimizer = torch.optim.SGD(
        parameter_groups(cfg, model),
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
    )
    if solver.CLIP_GRADIENTS.ENABLED:
        # At this point gradients are unscaled, with and without mixed precision.
        optimizer.register_step_pre_hook(_Clip(solver.CLIP_GRADIENTS))
    if not solver.AMP.ENABLED:
        return OptimWrapper(optimizer)
    if not torch.cuda.is_available():
        raise UserError("SOLVER.AMP.ENABLED needs a CUDA device; set it to False to use the CPU")
    return AmpOptimWrapper(optimizer=optimizer)


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict]:
    """Trainable parameters, grouped by learning rate and weight decay as detectron2 sets them.

    Norm layers decay by ``WEIGHT_DECAY_NORM``; biases by ``WEIGHT_DECAY_BIAS`` (None: like their
    layer) at ``BIAS_LR_FACTOR`` times the learning rate; what decides in the backbone learns at its
    node's ``..._LR_FACTOR`` times it.
    """
    solver = cfg.SOLVER
    by_name = lr_factors(cfg)
    factors = {
        id(parameter): by_name.get(name, 1.0)
        for name, parameters in own_parameters(model).items()
        for parameter in parameters
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            rate = solver.BASE_LR
            norm = isinstance(module, _NORMS)
            decay = solver.WEIGHT_DECAY_NORM if norm else solver.WEIGHT_DECAY
            if name == "bias":
                rate *= solver.BIAS_LR_FACTOR
                if solver.WEIGHT_DECAY_BIAS is not None:
                    decay = solver.WEIGHT_DECAY_BIAS
            rate *= factors.get(id(parameter), 1.0)
            groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


class WarmupSchedule(_ParamScheduler):
    """detectron2's learning rates: a warm-up, then steps or a cosine.

    Args:
        optimizer: whose groups' initial learning rates are multiplied.
        max_iter: length of training.
        warmup_iters, warmup_factor, warmup_method: from ``warmup_factor`` times the rate,
            ``"linear"`` to the rate that is due at ``warmup_iters``, or ``"constant"`` until then.
        steps: iterations after which the rate is multiplied by ``gamma``; None for a cosine down
            to ``end_factor`` times the rate.
    """

    def __init__(
        self,
        optimizer: OptimWrapper,
        *,
        max_iter: int,
        warmup_iters: int = 0,
        warmup_factor: float = 0.001,
        warmup_method: str = "linear",
        steps: Sequence[int] | None = None,
        gamma: float = 0.1,
        end_factor: float = 0.0,
    ) -> None:
        self.max_iter = max_iter
        self.warmup_iters = min(warmup_iters, max_iter)
        self.warmup_factor = warmup_factor
        self.warmup_method = warmup_method
        self.steps = None if steps is None else sorted(steps)
        self.gamma = gamma
        self.end_factor = end_factor
        super().__init__(optimizer, param_name="lr", by_epoch=False)

    def factor(self, iteration: int) -> float:
        """Multiple of the initial learning rate at an iteration."""
        if iteration >= self.warmup_iters:
            return self._after_warmup(iteration)
        start = self.warmup_factor * self._after_warmup(0)
        if self.warmup_method == "constant":
            return start
        end = self._after_warmup(self.warmup_iters)
        return start + (end - start) * iteration / self.warmup_iters

    def _after_warmup(self, iteration: int) -> float:
        if self.steps is not None:
            return self.gamma ** bisect_right(self.steps, iteration)
        cosine = 0.5 * (1 + math.cos(math.pi * iteration / self.max_iter))
        return self.end_factor + (1 - self.end_factor) * cosine

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step)
        return [base * factor for base in self.base_values]

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over the position; the schedule itself is the config's, which may have changed."""
        position = ("last_step", "_global_step", "_last_value", "base_values")
        super().load_state_dict({key: state_dict[key] for key in position})


def build_schedule(cfg: CfgNode, optimizer: OptimWrapper) -> WarmupSchedule:
    """The schedule that ``SOLVER.LR_SCHEDULER_NAME`` names."""
    solver = cfg.SOLVER
    cosine = solver.LR_SCHEDULER_NAME == "WarmupCosineLR"
    return WarmupSchedule(
        optimizer,
        max_iter=solver.MAX_ITER,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_method=solver.WARMUP_METHOD,
        steps=None if cosine else solver.STEPS,
        gamma=solver.GAMMA,
        end_factor=solver.BASE_LR_END / solver.BASE_LR,
    )


class _Clip:
    """Clips each parameter's gradient by itself, as detectron2 does, before an optimiser step."""

    def __init__(self, options: CfgNode) -> None:
        self.by_norm = options.CLIP_TYPE == "norm"
        self.limit = options.CLIP_VALUE
        self.norm_type = options.NORM_TYPE

    def __call__(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if self.by_norm:
                    nn.utils.clip_grad_norm_(parameter, self.limit, self.norm_type)
                else:
                    nn.utils.clip_grad_value_(parameter, self.limit)
