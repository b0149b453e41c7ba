"""detectron2 adapter: ``import dynbackbones.integrations.detectron2`` registers the backbones.

In a project of your own: the import, ``add_dynbackbones_config(cfg)`` before its YAML is merged,
one of the registered names in ``MODEL.BACKBONE.NAME``, and ``attach(model)`` after the model is
built. ``DynamicBackboneHook`` drives the schedules, ``BackboneCostEvaluator`` reports the cost.
The builders, such as ``build_sar_resnet_fpn_backbone``, can be imported from here by their names.
"""

from dynbackbones.integrations.config import add_dynbackbones_config
from dynbackbones.integrations.detectron2.attach import attach
from dynbackbones.integrations.detectron2.backbone import BUILDERS, BackboneAdapter, build_fpn
from dynbackbones.integrations.detectron2.evaluation import BackboneCostEvaluator
from dynbackbones.integrations.detectron2.hooks import DynamicBackboneHook
from dynbackbones.integrations.detectron2.lazy import (
    backbone_fpn,
    blockdrop_resnet_fpn,
    sar_resnet_fpn,
)

__all__ = [
    "BackboneAdapter",
    "BackboneCostEvaluator",
    "DynamicBackboneHook",
    "add_dynbackbones_config",
    "attach",
    "backbone_fpn",
    "blockdrop_resnet_fpn",
    "build_fpn",
    "sar_resnet_fpn",
    *BUILDERS,
]


def __getattr__(name: str) -> object:
    if name in BUILDERS:
        return BUILDERS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
