"""What the backbones of a run choose in training, in its logs."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.analysis.costs import mean_figures
from dynbackbones.integrations.mmengine.runner import dynamic_backbones, unwrap_model
from dynbackbones.training.loop import RateWatch


class DecisionLogHook(Hook):
    """Logs what the backbones chose in each training iteration.

    Rates of each stage and MACs (``gmacs``, 10^9) go into the log, those of each selector to the
    visualiser's backends alone.

    Args:
        selector_interval: iterations between logs of single selectors.
    """

    # Before the logger (BELOW_NORMAL).
    priority = "NORMAL"

    def __init__(self, selector_interval: int = 50) -> None:
        self.selector_interval = selector_interval
        self._watch = RateWatch()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._watch.update(unwrap_model(runner))
        for backbone in dynamic_backbones(runner):
            for name, value in mean_figures(backbone.decisions).items():
                runner.message_hub.update_scalar(f"train/{name}", value)
            if self.every_n_train_iters(runner, self.selector_interval):
                scalars = mean_figures(backbone.decisions, blocks=True)
                runner.visualizer.add_scalars(
                    {f"selectors/{name}": value for name, value in scalars.items()},
                    step=runner.iter + 1,
                )

    def after_train(self, runner: Runner) -> None:
        for message in self._watch.finish():
            runner.logger.warning(message)
