"""What dynamic backbones need around the iterations of mmengine's Runner.

Shared by the embedded detection engine and the OpenMMLab adapter.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from dynbackbones.analysis.costs import mean_figures
from dynbackbones.backbones import DynamicBackbone
from dynbackbones.backbones.base import find_backbones

_RANDOM_STATES = "random_states"
# What mmengine's CheckpointHook notes of the run so far.
_KEPT_INFO = ("best_score", "best_ckpt", "keep_ckpt_ids")


def unwrapped(runner: Runner) -> nn.Module:
    """The model of a runner without its wrappers (distributed training, test-time augmentation)."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


def dynamic_backbones(runner: Runner) -> list[DynamicBackbone]:
    """The backbones of a runner's model that choose what they compute."""
    found = find_backbones(unwrapped(runner))
    return [backbone for backbone in found if isinstance(backbone, DynamicBackbone)]


def set_progress(runner: Runner, fraction: float) -> None:
    """Moves the schedules of all backbones to a share of training done."""
    for backbone in dynamic_backbones(runner):
        backbone.set_progress(min(fraction, 1.0))


def log_decisions(runner: Runner, selectors: bool) -> None:
    """Logs what the backbones chose in the last training forward.

    Args:
        runner: figures of each stage go into its log.
        selectors: those of each selector too go to its visualiser's backends.
    """
    for backbone in dynamic_backbones(runner):
        for name, value in mean_figures(backbone.decisions).items():
            runner.message_hub.update_scalar(f"train/{name}", value)
        if selectors:
            scalars = mean_figures(backbone.decisions, blocks=True)
            runner.visualizer.add_scalars(
                {f"selectors/{name}": value for name, value in scalars.items()},
                step=runner.iter + 1,
            )


class RandomStates:
    """The random states of all processes in a checkpoint, so that a resumed run is the same run."""

    def __init__(self) -> None:
        self._collected: list[dict[str, Any]] = []
        self._resumed: list[dict[str, Any]] | None = None

    def collect(self) -> None:
        """Takes the present states; to be called in every process before a checkpoint is due."""
        # Only the main process writes, so the others' states come to it.
        self._collected = all_gather_object(random_state())

    def write(self, checkpoint: dict) -> None:
        """Puts them into a checkpoint, and takes out what only an unsafe loader would accept.

        That is mmengine's log history, which serves to smooth logged values. What it knows of
        the best and the last checkpoints stays, or a resumed run would forget them.
        """
        checkpoint[_RANDOM_STATES] = self._collected
        info = (checkpoint.get("message_hub") or {}).get("runtime_info", {})
        kept = {key: _plain(value) for key, value in info.items() if key.startswith(_KEPT_INFO)}
        checkpoint["message_hub"] = {
            "log_scalars": {},
            "runtime_info": kept,
            "resumed_keys": dict.fromkeys(kept, True),
        }

    def read(self, checkpoint: dict) -> None:
        """Takes the states of a run that is to be resumed out of its checkpoint."""
        self._resumed = checkpoint.get(_RANDOM_STATES)

    def restore(self, runner: Runner) -> None:
        """Continues from the states that `read` found; later calls do nothing."""
        resumed, self._resumed = self._resumed, None
        if not resumed:
            return
        if len(resumed) == get_world_size():
            set_random_state(resumed[get_rank()])
        else:
            runner.logger.warning(
                f"the checkpoint is of a run with {len(resumed)} processes, this one has "
                f"{get_world_size()}: losses will differ from those of the uninterrupted run"
            )


def stay_in(work_dir: str | os.PathLike, checkpoint: dict) -> None:
    """Makes a resumed run look for its best checkpoint in its own work dir.

    mmengine deletes the best checkpoint when there is a better one, by the path that the run had
    before: in a folder that was copied, or that another run goes on from, it is not this run's.
    """
    info = (checkpoint.get("message_hub") or {}).get("runtime_info", {})
    for key in [key for key in info if key.startswith("best_ckpt")]:
        path = Path(work_dir, Path(str(info[key])).name)
        info[key] = os.fspath(path) if path.exists() else None


def _plain(value: Any) -> Any:
    """A value as a safe loader accepts it: metrics may be NumPy's numbers."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


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
