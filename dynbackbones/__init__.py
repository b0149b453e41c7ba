"""Dynamic backbones for dense prediction.

Importing this package loads torch and no framework; adapters live in `dynbackbones.integrations`.
"""

import importlib

from dynbackbones import _moved
from dynbackbones.backbones import Backbone as Backbone
from dynbackbones.backbones import BlockDropCifarResNet as BlockDropCifarResNet
from dynbackbones.backbones import BlockDropDecisions as BlockDropDecisions
from dynbackbones.backbones import BlockDropResNet as BlockDropResNet
from dynbackbones.backbones import CifarResNet as CifarResNet
from dynbackbones.backbones import Decisions as Decisions
from dynbackbones.backbones import DynamicBackbone as DynamicBackbone
from dynbackbones.backbones import FeatureInfo as FeatureInfo
from dynbackbones.backbones import MobileNetV2 as MobileNetV2
from dynbackbones.backbones import ResNet as ResNet
from dynbackbones.backbones import SARCifarResNet as SARCifarResNet
from dynbackbones.backbones import SARDecisions as SARDecisions
from dynbackbones.backbones import SARMobileNetV2 as SARMobileNetV2
from dynbackbones.backbones import SARResNet as SARResNet
from dynbackbones.backbones import build_backbone as build_backbone
from dynbackbones.backbones import list_backbones as list_backbones
from dynbackbones.backbones import register_backbone as register_backbone
from dynbackbones.checkpoints import load_weights as load_weights
from dynbackbones.classifiers import build_classifier as build_classifier
from dynbackbones.classifiers import list_classifiers as list_classifiers
from dynbackbones.inference import optimize_for_inference as optimize_for_inference
from dynbackbones.inference.allocator import tune_allocator as tune_allocator
from dynbackbones.inference.calibration import calibrate as calibrate
from dynbackbones.integrations.attach import attach as attach
from dynbackbones.training.auxiliary import attach_auxiliary_losses as attach_auxiliary_losses
from dynbackbones.training.loop import decision_scalars as decision_scalars
from dynbackbones.training.loop import set_progress as set_progress

_moved.install()


def __getattr__(name: str) -> object:
    # What networks alone do without, and export without onnx: imported when asked for.
    if name in ("export", "video", "zoom"):
        return importlib.import_module(f"dynbackbones.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
