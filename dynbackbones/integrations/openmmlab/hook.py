"""The one hook that training a dynamic backbone with mmengine's Runner needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.backbones import Backbone
from dynbackbones.backbones.base import find_backbones
from dynbackbones.integrations.mmengine import runner as around
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.openmmlab.head_checks import check_classes, check_heads
from dynbackbones.integrations.openmmlab.image_sizes import padded_sizes
from dynbackbones.integrations.openmmlab.segmentation_policy import learn_policy
from dynbackbones.integrations.openmmlab.weights import check_backbones
from dynbackbones.training.auxiliary import attach_auxiliary_losses


@HOOKS.register_module()
class DynamicBackboneHook(RandomStateHook):
    """Attaches auxiliary losses, drives schedules, logs decisions, keeps random states.

    Stands in ``custom_hooks``. Rates of each stage go into the log, those of each selector to the
    visualiser's backends; validation and test add mean MACs (``gmacs``) and rates per image to the
    metrics. Checkpoints are those of `RandomStateHook`.

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
        super().__init__()
        self.by_epoch = by_epoch
        self.selector_interval = selector_interval
        self.policy = policy
        self._attached_to: nn.Module | None = None
        self._meter = _DecisionMeter()

    def before_run(self, runner: Runner) -> None:
        model = around.unwrapped(runner)
        if model is self._attached_to:
            return
        attach_auxiliary_losses(model)
        check_heads(model)
        learn_policy(model, self.policy)
        model.register_forward_pre_hook(_pass_image_sizes, with_kwargs=True)
        for backbone in find_backbones(model):
            backbone.register_forward_hook(self._meter.record)
        self._attached_to = model

    def before_train(self, runner: Runner) -> None:
        classes = getattr(runner.train_dataloader.dataset, "metainfo", {}).get("classes")
        if classes:
            check_classes(around.unwrapped(runner), len(classes), "those of the dataset")
        super().before_train(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        if self.by_epoch:
            around.set_progress(runner, runner.epoch / runner.max_epochs)
        else:
            around.set_progress(runner, runner.iter / runner.max_iters)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        selectors = self.every_n_train_iters(runner, self.selector_interval)
        around.log_decisions(runner, selectors)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train(self, runner: Runner) -> None:
        around.set_progress(runner, 1.0)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # mmengine goes on with whatever fits, in a network that then is half random.
        state = checkpoints.state_dict_of(checkpoint)
        check_backbones(around.unwrapped(runner), state, "to load")
        # It also knows one layout only.
        checkpoint["state_dict"] = state
        super().after_load_checkpoint(runner, checkpoint)

    def before_val_epoch(self, runner: Runner) -> None:
        super().before_val_epoch(runner)
        self._meter.reset()

    def before_test_epoch(self, runner: Runner) -> None:
        self._meter.reset()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        self._meter.images += len(outputs)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        self._meter.images += len(outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._report(runner, "val", metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._report(runner, "test", metrics)

    def _report(self, runner: Runner, mode: str, metrics: dict[str, float] | None) -> None:
        for name, value in self._meter.result().items():
            runner.message_hub.update_scalar(f"{mode}/{name}", value)
            if metrics is not None:
                metrics[name] = value


class _DecisionMeter:
    """Means of what backbones decide in evaluation.

    MACs are summed per image, since an image may pass in windows, scales and flips; rates are
    means over the passes.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.images = 0
        self._meter = DecisionMeter()

    def record(self, backbone: Backbone, inputs: tuple, output: Any) -> None:
        """Forward hook of a backbone."""
        if not backbone.training:
            self._meter.update(backbone.decisions)

    def result(self) -> dict[str, float]:
        """Means over all processes; empty where nothing was evaluated."""
        parts = all_gather_object((self.images, self._meter))
        total = DecisionMeter()
        total.merge([meter for _, meter in parts])
        return total.headline(sum(images for images, _ in parts))


def _pass_image_sizes(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook: tells the backbones where the images of a padded batch end."""
    names = ("inputs", "data_samples", "mode")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    # Windows of an image are passes of another size.
    test_cfg = getattr(model, "test_cfg", None) or {}
    if given.get("mode") == "predict" and test_cfg.get("mode") == "slide":
        return
    sizes = padded_sizes(given.get("inputs"), given.get("data_samples"))
    if sizes is not None:
        for backbone in find_backbones(model):
            backbone.set_image_sizes(sizes)
