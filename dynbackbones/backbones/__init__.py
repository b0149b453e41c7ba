"""Networks that return feature maps."""

from dynbackbones.backbones.base import Backbone as Backbone
from dynbackbones.backbones.base import DynamicBackbone as DynamicBackbone
from dynbackbones.backbones.base import FeatureInfo as FeatureInfo
from dynbackbones.backbones.blockdrop.decisions import BlockDropDecisions as BlockDropDecisions
from dynbackbones.backbones.blockdrop.resnet import BlockDropCifarResNet as BlockDropCifarResNet
from dynbackbones.backbones.blockdrop.resnet import BlockDropResNet as BlockDropResNet
from dynbackbones.backbones.cifar_resnet import CifarResNet as CifarResNet
from dynbackbones.backbones.decisions import Decisions as Decisions
from dynbackbones.backbones.factory import build_backbone as build_backbone
from dynbackbones.backbones.factory import list_backbones as list_backbones
from dynbackbones.backbones.resnet import ResNet as ResNet
from dynbackbones.backbones.sar.cifar_resnet import SARCifarResNet as SARCifarResNet
from dynbackbones.backbones.sar.decisions import SARDecisions as SARDecisions
from dynbackbones.backbones.sar.resnet import SARResNet as SARResNet
