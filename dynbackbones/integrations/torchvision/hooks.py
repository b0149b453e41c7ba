"""What happens around training iterations: schedules, logs, random states, results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones import checkpoints
from dynbackbones.integrations.mmengine import runner as around
from dynbackbones.integrations.torchvision.evaluation import nested, table
from dynbackbones.training.results import write_results

FINAL_CHECKPOINT = "model_final.pth"


class BackboneHook(Hook):
    """Moves the backbone's schedules and logs what it decides.

    Rates of each stage go to the console and to TensorBoard, those of each selector to TensorBoard
    alone.

    Args:
        interval: iterations between logs of single selectors.
    """

    priority = "NORMAL"

    def __init__(self, interval: int) -> None:
        self.interval = interval

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        around.set_progress(runner, runner.iter / runner.max_iters)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        around.log_decisions(runner, selectors=self.every_n_train_iters(runner, self.interval))

    def after_train(self, runner: Runner) -> None:
        around.set_progress(runner, 1.0)


class CheckpointContentHook(Hook):
    """Makes checkpoints complete enough to resume exactly, and safe to load.

    Args:
        interval: iterations between checkpoints.
    """

    # States are taken before the checkpoint is written (VERY_LOW).
    priority = "LOW"

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._states = around.RandomStates()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._states.collect()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._states.write(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._states.read(checkpoint)

    def before_train(self, runner: Runner) -> None:
        self._states.restore(runner)


class ResultsHook(Hook):
    """Writes what a run is for: the final weights and the results of evaluation.

    Args:
        output_dir: ``OUTPUT_DIR``.
        config: the run's config as YAML, kept in the weights' file.
    """

    priority = "LOWEST"

    def __init__(self, output_dir: str, config: str) -> None:
        self.output_dir = Path(output_dir)
        self.config = config

    def after_train_epoch(self, runner: Runner) -> None:
        if get_rank() == 0:
            checkpoints.save(
                self.output_dir / FINAL_CHECKPOINT,
                around.unwrapped(runner).detector.state_dict(),
                {"iteration": runner.iter, "config": self.config, "engine": "torchvision"},
            )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if get_rank() == 0 and metrics:
            results = nested(metrics)
            runner.logger.info(f"evaluation\n{table(results)}")
            write_results(results, self.output_dir / "results.json")
