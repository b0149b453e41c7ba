"""The one hook that training a dynamic backbone with mmengine's Runner needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.attach import attach
from dynbackbones.integrations.mmengine.decision_log import DecisionLogHook
from dynbackbones.integrations.mmengine.decision_meter import DecisionMeterHook
from dynbackbones.integrations.mmengine.divergence import DivergenceHook
from dynbackbones.integrations.mmengine.hook_group import HookGroup
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.integrations.mmengine.schedules import ScheduleHook
from dynbackbones.integrations.openmmlab.class_agreement import ClassAgreementHook
from dynbackbones.integrations.openmmlab.head_checks import check_classes, check_heads
from dynbackbones.integrations.openmmlab.segmentation_policy import learn_policy
from dynbackbones.integrations.openmmlab.weights import check_backbones


@HOOKS.register_module()
class DynamicBackboneHook(HookGroup):
    """Attaches auxiliary losses, drives schedules, logs decisions, keeps random states.

    Stands in ``custom_hooks``. Rates of each stage go into the log, those of each selector to the
    visualiser's backends; validation and test add mean MACs (``gmacs``) and rates per image to the
    metrics. Checkpoints are those of `RandomStateHook`. A training that diverges stops.

    Args:
        by_epoch: move the schedules once per epoch instead of every iteration.
        selector_interval: iterations between logs of single selectors.
        policy: options of `RewardOptions`, for a segmentor whose BlockDrop backbone has
            ``policy_training="reinforce"``.

    Raises:
        ValueError: the model has no backbone of this package, a head's channels do not match, or
            there is no policy to train where options for it are given.
    """

    def __init__(
        self,
        by_epoch: bool = False,
        selector_interval: int = 50,
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            _LossHook(policy),
            _HeadCheckHook(),
            _WeightCheckHook(),
            DivergenceHook(),
            ClassAgreementHook(),
            RandomStateHook(),
            ScheduleHook(by_epoch),
            DecisionLogHook(selector_interval),
            DecisionMeterHook(),
        )
        self._attached_to: nn.Module | None = None

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        # A runner may run several times: training, then a test.
        if model is not self._attached_to:
            super().before_run(runner)
            self._attached_to = model


class _LossHook(Hook):
    """Has a model return the losses of its backbones, and tell them where images end."""

    def __init__(self, policy: Mapping[str, Any] | None) -> None:
        self._policy = policy

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        if not find_backbones(model):
            raise ValueError(
                f"{type(model).__name__} contains no dynbackbones backbone; build it with one "
                "first, or remove DynamicBackboneHook"
            )
        attach(model)
        learn_policy(model, self._policy)


class _HeadCheckHook(Hook):
    """Refuses heads that do not fit the backbone or the dataset."""

    def before_run(self, runner: Runner) -> None:
        check_heads(unwrap_model(runner))

    def before_train(self, runner: Runner) -> None:
        classes = getattr(runner.train_dataloader.dataset, "metainfo", {}).get("classes")
        if classes:
            check_classes(unwrap_model(runner), len(classes), "those of the dataset")


class _WeightCheckHook(Hook):
    """Refuses weights of another network: mmengine goes on with whatever fits."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = checkpoints.state_dict_of(checkpoint)
        check_backbones(unwrap_model(runner), state, "to load")
        # mmengine knows one layout only.
        checkpoint["state_dict"] = state
