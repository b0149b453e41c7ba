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
from dynbackbones.backbones.mobilenet import MobileNetV2 as MobileNetV2
from dynbackbones.backbones.resnet import ResNet as ResNet
from dynbackbones.backbones.sar import resnet as _sar_resnet
from dynbackbones.backbones.sar.cifar_resnet import SARCifarResNet as SARCifarResNet
from dynbackbones.backbones.sar.decisions import SARDecisions as SARDecisions
from dynbackbones.backbones.sar.mobilenet import SARMobileNetV2 as SARMobileNetV2
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
_cifar = {
    **{f"cifar_wide_resnet{depth}": {"depth": depth} for depth in cifar_resnet.WIDE_DEPTHS},
    "cifar_wide_resnet28_10": cifar_resnet.WIDE_RESNET28_10,
    "cifar_resnext29_8x32": cifar_resnet.RESNEXT29_8X32,
}
register_backbone("cifar_resnet", CifarResNet, depths=cifar_resnet.DEPTHS, variants=_cifar)
register_backbone(
    "sar_cifar_resnet",
    SARCifarResNet,
    depths=cifar_resnet.PAPER_DEPTHS,
    variants={f"sar_{name}": options for name, options in _cifar.items()},
)
register_backbone("blockdrop_cifar_resnet", BlockDropCifarResNet, depths=cifar_resnet.PAPER_DEPTHS)
register_backbone("mobilenet_v2", MobileNetV2, node="MOBILENET")
register_backbone("sar_mobilenet_v2", SARMobileNetV2, node="SAR_MOBILENET")
