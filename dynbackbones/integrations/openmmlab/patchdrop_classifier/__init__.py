"""PatchDrop's training on mmpretrain; needs mmpretrain, so configs import it by name."""

from dynbackbones.integrations.openmmlab.patchdrop_classifier.classifier import (
    PatchDropClassifier as PatchDropClassifier,
)
