"""Pretraining a network on unlabelled images, in plain torch: spatial context networks.

Wu, Image and Video Understanding with Constrained Resources (dissertation, 2020), chapter 5, whose
equations are cited; also Wu, Davis and Sigal, Weakly-Supervised Spatial Context Networks, WACV
2019.
"""

from dynbackbones.pretraining.image_patches import cut_patches as cut_patches
from dynbackbones.pretraining.imagenet_teacher import imagenet_teacher as imagenet_teacher
from dynbackbones.pretraining.spatial_context import (
    SpatialContextModule as SpatialContextModule,
)
from dynbackbones.pretraining.spatial_context import context_loss as context_loss
from dynbackbones.pretraining.spatial_context import explained_variance as explained_variance
from dynbackbones.pretraining.spatial_context import offsets_between as offsets_between
from dynbackbones.pretraining.target_scaling import TargetScaling as TargetScaling
from dynbackbones.pretraining.teacher import Teacher as Teacher
from dynbackbones.pretraining.teacher import pooled as pooled
