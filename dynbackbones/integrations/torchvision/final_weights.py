"""The weights that a run ends with, in a file of their own."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones import checkpoints
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.training.run_folder import FINAL_WEIGHTS


class FinalWeightsHook(Hook):
    """Writes the detector's weights into the work dir when training ends.

    Args:
        config: the run's config as YAML, kept in the file.
    """

    def __init__(self, config: str) -> None:
        self._config = config

    def after_train_epoch(self, runner: Runner) -> None:
        if is_main_process():
            checkpoints.save(
                Path(runner.work_dir) / FINAL_WEIGHTS,
                unwrap_model(runner).detector.state_dict(),
                {
                    "iteration": runner.iter,
                    "config": self._config,
                    "engine": "torchvision",
                    "classes": list(runner.train_dataloader.dataset.metainfo["classes"]),
                },
            )
