"""The model inside mmengine's Runner, and its backbones."""

from __future__ import annotations

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from dynbackbones.backbones import DynamicBackbone
from dynbackbones.backbones.base import find_backbones


def unwrap_model(runner: Runner) -> nn.Module:
    """The model of a runner without its wrappers (distributed training, test-time augmentation)."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


def dynamic_backbones(runner: Runner) -> list[DynamicBackbone]:
    """The backbones of a runner's model that choose what they compute."""
    found = find_backbones(unwrap_model(runner))
    return [backbone for backbone in found if isinstance(backbone, DynamicBackbone)]
