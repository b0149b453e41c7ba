"""What happens around training iterations: schedules, logs, random states, results."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from dynbackbones import checkpoints
from dynbackbones.backbones import DynamicBackbone
from dynbackbones.integrations.auxiliary import find_backbones
from dynbackbones.integrations.results import write_results
from dynbackbones.integrations.torchvision.evaluation import nested, table
from dynbackbones.integrations.torchvision.model import DetectorModel

FINAL_CHECKPOINT = "model_final.pth"
_RANDOM_STATES = "random_states"


def unwrapped(runner: Runner) -> DetectorModel:
    """The model of a runner without its wrapper for distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


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
        for backbone in self._dynamic(runner):
            backbone.set_progress(min(runner.iter / runner.max_iters, 1.0))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for backbone in self._dynamic(runner):
            for name, value in _means(backbone.decisions.summary()).items():
                runner.message_hub.update_scalar(f"train/{name}", value)
            if self.every_n_train_iters(runner, self.interval):
                scalars = _means(backbone.decisions.summary(per_block=True))
                runner.visualizer.add_scalars(
                    {f"selectors/{name}": value for name, value in scalars.items()},
                    step=runner.iter + 1,
                )

    def after_train(self, runner: Runner) -> None:
        for backbone in self._dynamic(runner):
            backbone.set_progress(1.0)

    @staticmethod
    def _dynamic(runner: Runner) -> list[DynamicBackbone]:
        found = find_backbones(unwrapped(runner))
        return [backbone for backbone in found if isinstance(backbone, DynamicBackbone)]


class CheckpointContentHook(Hook):
    """Makes checkpoints complete enough to resume exactly, and safe to load.

    Random states of every process go in; mmengine's log history, whose class only an unsafe loader
    would accept, goes out.

    Args:
        interval: iterations between checkpoints.
    """

    # States are taken before the checkpoint is written (VERY_LOW).
    priority = "LOW"

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._states: list[dict[str, Any]] = []
        self._resumed: list[dict[str, Any]] | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            # Only the main process writes, so the others' states come to it.
            self._states = all_gather_object(random_state())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint[_RANDOM_STATES] = self._states
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._resumed = checkpoint.get(_RANDOM_STATES)

    def before_train(self, runner: Runner) -> None:
        if self._resumed is None:
            return
        if len(self._resumed) == get_world_size():
            set_random_state(self._resumed[get_rank()])
        else:
            runner.logger.warning(
                f"the checkpoint is of a run with {len(self._resumed)} processes, this one has "
                f"{get_world_size()}: losses will differ from those of the uninterrupted run"
            )


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
                unwrapped(runner).detector.state_dict(),
                {"iteration": runner.iter, "config": self.config, "engine": "torchvision"},
            )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if get_rank() == 0 and metrics:
            results = nested(metrics)
            runner.logger.info(f"evaluation\n{table(results)}")
            write_results(results, self.output_dir / "results.json")


def random_state() -> dict[str, Any]:
    """The states of all random number generators of this process, as plain data and tensors."""
    # The legacy generator is the global one, which other people's code may draw from.
    algorithm, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (algorithm, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restores what `random_state` returned."""
    random.setstate(state["python"])
    algorithm, keys, *rest = state["numpy"]
    keys = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((algorithm, keys, *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def _means(values: dict[str, torch.Tensor]) -> dict[str, float]:
    """Means over a batch, costs in units of 10^9."""
    means = {name: float(value.mean()) for name, value in values.items()}
    if "macs" in means:
        means["gmacs"] = means.pop("macs") / 1e9
    return means
