"""Modules that stood elsewhere before 0.2: their old names work, with one warning each.

Configs that earlier runs dumped name modules in ``custom_imports``, and so do users' own.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Sequence

MOVED = {
    "_numpy_pickle": "checkpoints.numpy_pickle",
    "backbones.block_execution": "backbones.blockdrop.stage",
    "backbones.block_selection": "backbones.blockdrop.selection",
    "backbones.blockdrop_resnet": "backbones.blockdrop.resnet",
    "backbones.region_selection": "backbones.sar.selection",
    "backbones.sar_cifar_resnet": "backbones.sar.cifar_resnet",
    "backbones.sar_fusion": "backbones.sar.fusion",
    "backbones.sar_resnet": "backbones.sar.resnet",
    "backbones.sar_stage": "backbones.sar.stage",
    "calibration": "inference.calibration",
    "conversion": "checkpoints.conversion",
    "conversion.architecture": "checkpoints.conversion.architecture",
    "conversion.conversion": "checkpoints.conversion.conversion",
    "conversion.formats": "checkpoints.conversion.formats",
    "conversion.report": "checkpoints.conversion.report",
    "conversion.source": "checkpoints.conversion.source",
    "data.digit_tiles": "demo.digit_tiles",
    "data.digits": "demo.digits",
    "data.scenes": "demo.scenes",
    "integrations.auxiliary": "training.auxiliary",
    "integrations.convert": "cli.convert",
    "integrations.costs": "analysis.costs",
    "integrations.openmmlab.adaptation_pictures": "cli.adaptation_pictures",
    "integrations.openmmlab.cells": "experiments.cells",
    "integrations.openmmlab.class_checks": "integrations.openmmlab.datasets.class_checks",
    "integrations.openmmlab.classification": "integrations.openmmlab.blockdrop_classifier",
    "integrations.openmmlab.classification_data": "integrations.openmmlab.datasets.packed_images",
    "integrations.openmmlab.classification_evaluation": "experiments.policy_evaluation",
    "integrations.openmmlab.classification_metrics": (
        "integrations.openmmlab.blockdrop_classifier.metrics"
    ),
    "integrations.openmmlab.classification_table": "experiments.policy_table",
    "integrations.openmmlab.comparison": "experiments.comparison",
    "integrations.openmmlab.data": "integrations.mmengine.seeded_data",
    "integrations.openmmlab.digit_tiles": "integrations.openmmlab.datasets.digit_tiles",
    "integrations.openmmlab.digits": "integrations.openmmlab.datasets.digits",
    "integrations.openmmlab.domain_pictures": "integrations.openmmlab.dcan.pictures",
    "integrations.openmmlab.driving": "integrations.openmmlab.datasets.driving",
    "integrations.openmmlab.fcn8s": "integrations.openmmlab.heads.fcn8s",
    "integrations.openmmlab.generator_group": "integrations.openmmlab.dcan.optimizer_group",
    "integrations.openmmlab.image_folders": "integrations.openmmlab.datasets.image_folders",
    "integrations.openmmlab.image_sizes": "integrations.image_sizes",
    "integrations.openmmlab.launch": "cli.train",
    "integrations.openmmlab.night": "integrations.openmmlab.datasets.night",
    "integrations.openmmlab.results": "integrations.mmengine.results",
    "integrations.openmmlab.resume": "integrations.mmengine.resume",
    "integrations.openmmlab.run_config": "integrations.mmengine.run_config",
    "integrations.openmmlab.style": "integrations.openmmlab.dcan.style",
    "integrations.openmmlab.subset_iou": "integrations.openmmlab.datasets.subset_iou",
    "integrations.openmmlab.synthesis": "integrations.openmmlab.dcan.synthesis",
    "integrations.openmmlab.target_images": "integrations.openmmlab.dcan.target_images",
    "integrations.policy_training": "training.policy",
    "integrations.results": "training.results",
    "integrations.runner": "integrations.mmengine.runner",
    "integrations.verification": "cli.verification",
    "key_maps": "checkpoints.names",
    "losses": "backbones.sar.loss",
    "schedules": "backbones.sar.schedules",
    "integrations.launch": "cli.train_net",
}
"""Old to new names, both below ``dynbackbones``."""

_PACKAGE = "dynbackbones."


class _MovedFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the new module under the old name; asked last, for names that no file has."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.removeprefix(_PACKAGE) not in MOVED or not name.startswith(_PACKAGE):
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def exec_module(self, module: types.ModuleType) -> None:
        old = module.__name__
        new = _PACKAGE + MOVED[old.removeprefix(_PACKAGE)]
        warnings.warn(f"{old} is now {new}; change the import", FutureWarning, stacklevel=2)
        # The import system takes what stands here in place of the empty module.
        sys.modules[old] = importlib.import_module(new)


def install() -> None:
    """Lets the import system know the old names; installing twice does nothing."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MovedFinder())
