"""detectron2 adapter: ``import dynbackbones.integrations.detectron2`` registers the backbones.

In a project of your own: the import, ``add_dynbackbones_config(cfg)`` before its YAML is merged,
one of the registered names in ``MODEL.BACKBONE.NAME``, and ``attach(model)`` after the model is
built. ``DynamicBackboneHook`` drives the schedules, ``BackboneCostEvaluator`` reports the cost.
"""

from dynbackbones.integrations.config import add_dynbackbones_config
from dynbackbones.integrations.detectron2.attach import attach
from dynbackbones.integrations.detectron2.backbone import (
    BackboneAdapter,
    build_blockdrop_resnet_backbone,
    build_blockdrop_resnet_fpn_backbone,
    build_fpn,
    build_retinanet_blockdrop_resnet_fpn_backbone,
    build_retinanet_sar_resnet_fpn_backbone,
    build_sar_resnet_backbone,
    build_sar_resnet_fpn_backbone,
)
from dynbackbones.integrations.detectron2.evaluation import BackboneCostEvaluator
from dynbackbones.integrations.detectron2.hooks import DynamicBackboneHook
from dynbackbones.integrations.detectron2.lazy import blockdrop_resnet_fpn, sar_resnet_fpn

__all__ = [
    "BackboneAdapter",
    "BackboneCostEvaluator",
    "DynamicBackboneHook",
    "add_dynbackbones_config",
    "attach",
    "blockdrop_resnet_fpn",
    "build_blockdrop_resnet_backbone",
    "build_blockdrop_resnet_fpn_backbone",
    "build_fpn",
    "build_retinanet_blockdrop_resnet_fpn_backbone",
    "build_retinanet_sar_resnet_fpn_backbone",
    "build_sar_resnet_backbone",
    "build_sar_resnet_fpn_backbone",
    "sar_resnet_fpn",
]
