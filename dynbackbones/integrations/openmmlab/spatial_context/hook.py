"""What a run of a spatial context network needs beside its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.divergence import check_losses
from dynbackbones.integrations.mmengine.runner import unwrap_model
from dynbackbones.integrations.mmengine.seeded_data import SeededDataset
from dynbackbones.training.faults import ADVICE

TEACHER = "teacher"
"""Key in a checkpoint's ``meta``: ``source`` and ``sha256`` of the teacher's weights."""
_ADVICE = {
    "none": "targets have the teacher's scale (model.target_norm='none'): set it to 'standardise', "
    "or lower the learning rate to suit that scale",
    "standardise": f"targets are standardised (model.target_norm='standardise'), so {ADVICE}",
}


@HOOKS.register_module()
class SpatialContextHook(Hook):
    """Fits the scale of the targets before training, and notes the teacher in checkpoints.

    A run is not continued with another teacher.

    Args:
        patches: of the training images that the scale is estimated from.
    """

    # Before DivergenceHook, which does not know what targets are.
    priority = "ABOVE_NORMAL"

    def __init__(self, patches: int = 1024) -> None:
        self._patches = patches
        self._checked = False

    def before_train(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        if bool(model.scaling.fitted):
            return  # a run that is continued, or targets as they are
        dataset = runner.train_dataloader.dataset
        # The same in all processes.
        places = np.linspace(0, len(dataset) - 1, max(self._patches, 2)).astype(int)
        keys = enumerate(places.tolist())
        seeded = isinstance(dataset, SeededDataset)
        samples = [dataset[(place, seed) if seeded else place] for seed, place in keys]
        # From BGR.
        model.fit_targets(torch.stack([sample["inputs"][0] for sample in samples]).flip(1))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._checked or data_batch is None:
            return
        self._checked = True
        samples = data_batch["data_samples"]
        if len(samples) > 1 and len({sample.img_path for sample in samples}) == 1:
            runner.logger.warning(
                f"all {len(samples)} pairs of a batch are of one image ({samples[0].img_path}): "
                "batch norm sees that image alone; use more images"
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        losses = {"loss_context": (outputs or {}).get("loss_context", 0.0)}
        check_losses(runner, losses, _ADVICE[unwrap_model(runner).scaling.norm])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        teacher = unwrap_model(runner).target_generator
        checkpoint["meta"][TEACHER] = {"source": teacher.source, "sha256": teacher.sha256}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        known = (checkpoint.get("meta") or {}).get(TEACHER)
        here = unwrap_model(runner).target_generator
        if not runner._resume or not known or known["sha256"] == here.sha256:
            return
        raise UserError(
            f"the run to continue had the teacher {known['source']} (sha256 "
            f"{known['sha256'][:12]}...), and target_generator.pretrained={here.source} is another "
            f"file ({here.sha256[:12]}...); give that one, or start anew with --work-dir"
        )
