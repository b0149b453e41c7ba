"""What the backbones of a run, or its zoom, choose and spend in validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.hooks import RemovableHandle

from dynbackbones.analysis.costs import DecisionMeter
from dynbackbones.backbones import Backbone
from dynbackbones.backbones.base import find_backbones
from dynbackbones.classifiers.base import DynamicClassifier
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.zoom.wrapper import Zoom

Counted = Backbone | DynamicClassifier | Zoom


@HOOKS.register_module()
class DecisionMeterHook(Hook):
    """Adds mean MACs (``gmacs``, 10^9) and rates of an image to the metrics of an evaluation.

    MACs are summed per image, since an image may pass in windows, scales and flips; rates are
    means over the passes. Zooms and classifiers of patches are counted as a whole, other models
    by their backbones. Part of ``DynamicBackboneHook``; by itself for models without a backbone of
    this package.
    """

    def __init__(self) -> None:
        self._images = 0
        self._meter = DecisionMeter()
        self._handles: list[RemovableHandle] = []

    def before_run(self, runner: Runner) -> None:
        # A runner may run several times: training, then a test.
        for handle in self._handles:
            handle.remove()
        model = unwrap_model(runner)
        # What chooses counts its backbones itself.
        choosing = [m for m in model.modules() if isinstance(m, Zoom | DynamicClassifier)]
        counted = choosing[:1] or find_backbones(model)
        self._handles = [module.register_forward_hook(self._record) for module in counted]

    def _record(self, counted: Counted, inputs: tuple, output: Any) -> None:
        if not counted.training:
            self._meter.update(counted.decisions)

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        self._images = 0
        self._meter.reset()

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | dict | None = None,
        mode: str = "train",
    ) -> None:
        if mode != "train":
            self._images += len(outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._report(runner, "val", metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._report(runner, "test", metrics)

    def _report(self, runner: Runner, mode: str, metrics: dict[str, float] | None) -> None:
        for name, value in self._result().items():
            runner.message_hub.update_scalar(f"{mode}/{name}", value)
            if metrics is not None:
                metrics[name] = value

    def _result(self) -> dict[str, float]:
        """Means over all processes; empty where nothing was evaluated."""
        parts = all_gather_object((self._images, self._meter))
        total = DecisionMeter()
        total.merge([meter for _, meter in parts])
        return total.headline(sum(images for images, _ in parts))
