"""OpenMMLab adapter: importing it registers everything in mmengine's root registries.

Configs of mmseg, mmpretrain and mmdet name it once:

    custom_imports = dict(imports=["dynbackbones.integrations.openmmlab"])

backbones    SARResNet, BlockDropResNet, StaticResNet, SARMobileNetV2, StaticMobileNetV2, and for
             CIFAR CifarResNet, SARCifarResNet and BlockDropCifarResNet (weights: their init_cfg)
hook         DynamicBackboneHook, all that training needs (its parts: integrations.mmengine, of
             which DecisionMeterHook has a name in configs, too)
pictures     RegionPictureHook, what was refined, as pictures
dcan         DCANHook, unsupervised domain adaptation of a segmentor; StyleGeneratorTraining and
             StylePictureHook, to train its generator before
checks       what is looked at before a run starts (heads: head_checks)

From `integrations.mmengine`: RandomStateHook, exact resume of any other model's runs, with
SeededSampler (by epochs SeededEpochSampler) and SeededDataset; CheckLabels.

Imported by name, as they need mmseg or mmpretrain: `heads`, `datasets`, `zoom_segmentor`, which has
ZoomSegmentor, `blockdrop_classifier`, which holds what training BlockDrop with mmpretrain
needs, and `spatial_context`, pretraining on unlabelled images.
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
from dynbackbones.integrations.openmmlab.backbones import SARMobileNetV2 as SARMobileNetV2
from dynbackbones.integrations.openmmlab.backbones import SARResNet as SARResNet
from dynbackbones.integrations.openmmlab.backbones import StaticMobileNetV2 as StaticMobileNetV2
from dynbackbones.integrations.openmmlab.backbones import StaticResNet as StaticResNet
from dynbackbones.integrations.openmmlab.dcan.hook import DCANHook as DCANHook
from dynbackbones.integrations.openmmlab.dcan.style import (
    StyleGeneratorTraining as StyleGeneratorTraining,
)
from dynbackbones.integrations.openmmlab.dcan.style import StylePictureHook as StylePictureHook
from dynbackbones.integrations.openmmlab.hook import DynamicBackboneHook as DynamicBackboneHook
from dynbackbones.integrations.openmmlab.pictures import RegionPictureHook as RegionPictureHook
