"""Networks that return feature maps."""

from dynbackbones.backbones import cifar_resnet, resnet
from dynbackbones.backbones.base import Backbone as Backbone
from dynbackbones.backbones.base import FeatureInfo as FeatureInfo
from dynbackbones.backbones.base import find_backbones as find_backbones
from dynbackbones.backbones.blockdrop.decisions import BlockDropDecisions as BlockDropDecisions
from dynbackbones.backbones.blockdrop.resnet import BlockDropCifarResNet as BlockDropCifarResNet
from dynbackbones.backbones.blockdrop.resnet import BlockDropResNet as BlockDropResNet
from dynbackbones.backbones.cifar_resnet import CifarResNet as CifarResNet
from dynbackbones.backbones.decisions import Decisions as Decisions
from dynbackbones.backbones.dynamic import DynamicBackbone as DynamicBackbone
from dynbackbones.backbones.factory import build_backbone as build_backbone
from dynbackbones.backbones.factory import list_backbones as list_backbones
from dynbackbones.backbones.factory import register_backbone as register_backbone
from dynbackbones.backbones.resnet import ResNet as ResNet
from dynbackbones.backbones.sar import resnet as _sar_resnet
from dynbackbones.backbones.sar.cifar_resnet import SARCifarResNet as SARCifarResNet
from dynbackbones.backbones.sar.decisions import SARDecisions as SARDecisions
from dynbackbones.backbones.sar.resnet import SARResNet as SARResNet

_resnext50 = {"depth": 50, **resnet.RESNEXT}
register_backbone(
    "resnet", ResNet, depths=resnet.LAYOUTS, variants={"resnext50_32x4d": _resnext50}
)
register_backbone(
    "sar_resnet",
    SARResNet,
    node="SAR",
    depths=_sar_resnet.DEPTHS,
    variants={"sar_resnext50_32x4d": _resnext50},
)
register_backbone("blockdrop_resnet", BlockDropResNet, node="BLOCKDROP", depths=resnet.LAYOUTS)
register_backbone("cifar_resnet", CifarResNet, depths=cifar_resnet.DEPTHS)
register_backbone("sar_cifar_resnet", SARCifarResNet, depths=cifar_resnet.PAPER_DEPTHS)
register_backbone("blockdrop_cifar_resnet", BlockDropCifarResNet, depths=cifar_resnet.PAPER_DEPTHS)
