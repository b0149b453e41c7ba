"""What a training loop of one's own calls: schedules forward, figures out."""

from __future__ import annotations

import torch
from torch import nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.backbones.scheduled import Scheduled

PREFIX = "decisions"
"""Of scalars: not "backbone", under which detectron2 logs the results of evaluations."""


def set_progress(model: nn.Module, fraction: float) -> None:
    """Moves every schedule of what is dynamic in a model to a share of training.

    Call it before each iteration, also after a resume: ``set_progress(model, it / max_iter)``.

    Args:
        model: any model, wrapped for distributed training or not; one without a dynamic backbone,
            classifier or `video.LiteEval`, such as a baseline, is left alone.
        fraction: of training that is done; beyond 1 it counts as 1.

    Raises:
        ValueError: ``fraction`` is negative.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("sar_resnet18", target_rate=0.4)
        >>> dynbackbones.set_progress(torch.nn.Sequential(net), 0.5)
        >>> round(net.scheduled_target_rate, 2)
        0.4
    """
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.set_progress(min(fraction, 1.0))


def decision_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """As `decision_scalars`, each a tensor without dimensions where its backbone left it."""
    values = {}
    for index, backbone in enumerate(find_backbones(model), start=1):
        if backbone.decisions is not None:
            prefix = PREFIX if index == 1 else f"{PREFIX}{index}"
            for name, figure in backbone.decisions.figures().items():
                values[f"{prefix}/{name}"] = figure.values.float().mean()
    return values


def decision_scalars(model: nn.Module) -> dict[str, float]:
    """Means over the batch of what a model's backbones chose in the last forward, for logs.

    Args:
        model: any model; of one without a backbone of this package there are none.

    Returns:
        ``decisions/gmacs``, ``decisions/activation_rate`` and so on, those of stages and blocks
        too; a second backbone's begin with ``decisions2/``.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("sar_resnet18").eval()
        >>> _ = net(torch.rand(1, 3, 64, 64))
        >>> dynbackbones.decision_scalars(net)["decisions/activation_rate"]
        1.0
    """
    return {name: float(value) for name, value in decision_tensors(model).items()}


class RateWatch:
    """Finds out in a training whether decisions never left "compute everything"."""

    STUCK = 0.999

    def __init__(self) -> None:
        self._lowest: dict[str, torch.Tensor] = {}

    def update(self, model: nn.Module) -> None:
        """Looks at what was chosen in the last training forward."""
        for backbone in find_backbones(model):
            if not isinstance(backbone, DynamicBackbone) or not _may_save(backbone):
                continue
            rate = backbone.decisions and backbone.decisions.rate
            if rate is not None:
                name, lowest = backbone.decisions.rate_name, rate.min()
                # Compared as tensors: a number would have to wait for the device.
                self._lowest[name] = lowest.minimum(self._lowest.get(name, lowest))

    def finish(self) -> list[str]:
        """What to tell of rates that stayed at 1 throughout, and forgets them."""
        lowest, self._lowest = self._lowest, {}
        return [
            f"{name} stayed at {float(value):.3f} for the whole training, so nothing is saved: "
            "train for longer, start with a smaller selector_margin (2 for a few thousand "
            "iterations) or from trained weights, or lower it afterwards with calibrate"
            for name, value in lowest.items()
            if float(value) > self.STUCK
        ]


def _may_save(backbone: DynamicBackbone) -> bool:
    """Whether this training is to make the network compute less."""
    free = backbone.selection is None and backbone.policy_training != "frozen"
    return free and getattr(backbone, "target_rate", 0) < 1
