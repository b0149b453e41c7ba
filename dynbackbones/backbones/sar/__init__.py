"""SAR: a cheap branch everywhere, full resolution where an image needs it (IEEE TIP 2021)."""

from dynbackbones.backbones.sar.cifar_resnet import SARCifarResNet as SARCifarResNet
from dynbackbones.backbones.sar.decisions import SARDecisions as SARDecisions
from dynbackbones.backbones.sar.network import SARBackbone as SARBackbone
from dynbackbones.backbones.sar.resnet import SARResNet as SARResNet
from dynbackbones.backbones.sar.selection import RegionSelection as RegionSelection
