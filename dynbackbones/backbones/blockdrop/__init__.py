"""BlockDrop: a policy network chooses the residual blocks that an image runs (CVPR 2018)."""

from dynbackbones.backbones.blockdrop.decisions import BlockDropDecisions as BlockDropDecisions
from dynbackbones.backbones.blockdrop.network import BlockDropBackbone as BlockDropBackbone
from dynbackbones.backbones.blockdrop.resnet import BlockDropCifarResNet as BlockDropCifarResNet
from dynbackbones.backbones.blockdrop.resnet import BlockDropResNet as BlockDropResNet
from dynbackbones.backbones.blockdrop.selection import BlockSelection as BlockSelection
