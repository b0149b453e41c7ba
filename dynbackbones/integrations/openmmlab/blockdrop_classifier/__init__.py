"""BlockDrop's training on mmpretrain; needs mmpretrain, so configs import it by name."""

from dynbackbones.integrations.openmmlab.blockdrop_classifier.classifier import (
    BlockDropClassifier as BlockDropClassifier,
)
