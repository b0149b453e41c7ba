"""Glance and Focus on mmpretrain; needs mmpretrain, so configs import it by name."""

from dynbackbones.integrations.openmmlab.glance_focus_classifier.classifier import (
    GlanceFocus as GlanceFocus,
)
