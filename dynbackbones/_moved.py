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

# From one room into another, under the same names.
_INTO_ROOMS = {
    ("conversion", "checkpoints.conversion"): "architecture conversion formats report source",
    ("data", "demo"): "digit_tiles digits scenes",
    ("integrations.openmmlab", "cli"): "adaptation_pictures",
    ("integrations.openmmlab", "experiments"): "cells comparison",
    ("integrations.openmmlab", "integrations.openmmlab.datasets"): (
        "class_checks digit_tiles digits driving image_folders night subset_iou"
    ),
    ("integrations.openmmlab", "integrations.openmmlab.heads"): "fcn8s",
    ("integrations.openmmlab", "integrations"): "image_sizes",
    ("integrations.openmmlab", "integrations.mmengine"): "results resume run_config",
    ("integrations.openmmlab", "integrations.openmmlab.dcan"): "style synthesis target_images",
}
_RENAMED = {
    "_numpy_pickle": "checkpoints.unpickling",
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
    "integrations.auxiliary": "training.auxiliary",
    "integrations.convert": "cli.convert",
    "integrations.costs": "analysis.costs",
    "integrations.openmmlab.classification": "integrations.openmmlab.blockdrop_classifier",
    "integrations.openmmlab.classification_data": "integrations.openmmlab.datasets.packed_images",
    "integrations.openmmlab.classification_evaluation": "experiments.policy_evaluation",
    "integrations.openmmlab.classification_metrics": (
        "integrations.openmmlab.blockdrop_classifier.metrics"
    ),
    "integrations.openmmlab.classification_table": "experiments.policy_table",
    "integrations.openmmlab.data": "integrations.mmengine.seeded_data",
    "integrations.openmmlab.domain_pictures": "integrations.openmmlab.dcan.pictures",
    "integrations.openmmlab.generator_group": "integrations.openmmlab.dcan.optimizer_group",
    "integrations.openmmlab.launch": "cli.train",
    "integrations.policy_training": "training.policy",
    "integrations.results": "training.results",
    "integrations.runner": "integrations.mmengine.runner",
    "integrations.verification": "cli.verification",
    "key_maps": "checkpoints.names",
    "losses": "backbones.sar.loss",
    "schedules": "backbones.sar.schedules",
    "integrations.launch": "cli.train_net",
}
MOVED = _RENAMED | {
    f"{old}.{name}": f"{new}.{name}"
    for (old, new), names in _INTO_ROOMS.items()
    for name in names.split()
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
