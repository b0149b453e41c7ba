"""OpenMMLab adapter: importing it registers everything in mmengine's root registries.

Configs of mmseg, mmpretrain and mmdet name it once:

    custom_imports = dict(imports=["dynbackbones.integrations.openmmlab"])

backbones     SARResNet, BlockDropResNet, StaticResNet, and for CIFAR CifarResNet,
              SARCifarResNet and BlockDropCifarResNet (weights: their init_cfg)
hook          DynamicBackboneHook, all that training needs
resume        RandomStateHook, exact resume of any other model's runs
dcan          DCANHook, unsupervised domain adaptation of a segmentor
style         StyleGeneratorTraining and StylePictureHook, to train DCAN's generator before
pictures      RegionPictureHook, what was refined, as pictures
data          SeededSampler (by epochs SeededEpochSampler) and SeededDataset for exact resume,
              CheckLabels
launch        the command lines of tools/train.py and tools/test.py (checks: what comes first)
digits        DigitsDataset, the demo dataset for mmseg; imported by name
digit_tiles   DigitTiles, its digits one by one for mmpretrain; imported by name
image_folders  ImageFolders, class folders with broken files for mmpretrain; imported by name
classification  BlockDropClassifier and what training it with mmpretrain needs; imported by name
"""

from dynbackbones.integrations.mmengine.resume import RandomStateHook as RandomStateHook
from dynbackbones.integrations.mmengine.seeded_data import CheckLabels as CheckLabels
from dynbackbones.integrations.mmengine.seeded_data import SeededDataset as SeededDataset
from dynbackbones.integrations.mmengine.seeded_data import SeededEpochSampler as SeededEpochSampler
from dynbackbones.integrations.mmengine.seeded_data import SeededSampler as SeededSampler
from dynbackbones.integrations.openmmlab.backbones import (
    BlockDropCifarResNet as BlockDropCifarResNet,
)
from dynbackbones.integrations.openmmlab.backbones import BlockDropResNet as BlockDropResNet
from dynbackbones.integrations.openmmlab.backbones import CifarResNet as CifarResNet
from dynbackbones.integrations.openmmlab.backbones import SARCifarResNet as SARCifarResNet
from dynbackbones.integrations.openmmlab.backbones import SARResNet as SARResNet
from dynbackbones.integrations.openmmlab.backbones import StaticResNet as StaticResNet
from dynbackbones.integrations.openmmlab.dcan.hook import DCANHook as DCANHook
from dynbackbones.integrations.openmmlab.dcan.style import (
    StyleGeneratorTraining as StyleGeneratorTraining,
)
from dynbackbones.integrations.openmmlab.dcan.style import StylePictureHook as StylePictureHook
from dynbackbones.integrations.openmmlab.hook import DynamicBackboneHook as DynamicBackboneHook
from dynbackbones.integrations.openmmlab.pictures import RegionPictureHook as RegionPictureHook
