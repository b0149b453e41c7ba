"""Spatial context networks on mmpretrain's Runner; needs mmpretrain, so configs import it by name.

SpatialContextNetwork  the model: student, context module, teacher
PatchPairs             the data: pairs of patches of the images in a folder
ContextError           the metric: what of the targets' variance is explained
SpatialContextHook     the scale of the targets, and the teacher's name in checkpoints
"""

from dynbackbones.integrations.openmmlab.spatial_context.hook import (
    SpatialContextHook as SpatialContextHook,
)
from dynbackbones.integrations.openmmlab.spatial_context.metrics import (
    ContextError as ContextError,
)
from dynbackbones.integrations.openmmlab.spatial_context.network import (
    SpatialContextNetwork as SpatialContextNetwork,
)
from dynbackbones.integrations.openmmlab.spatial_context.patch_pairs import (
    PatchPairs as PatchPairs,
)
