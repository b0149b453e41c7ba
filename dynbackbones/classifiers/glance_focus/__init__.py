"""Glance and Focus: the whole image small, then crops of it, until the classifier is sure.

Wang et al., Glance and Focus (NeurIPS 2020), by the authors' public code.
"""

from dynbackbones.classifiers.glance_focus.decisions import FocusDecisions as FocusDecisions
from dynbackbones.classifiers.glance_focus.learning import FocusLearning as FocusLearning
from dynbackbones.classifiers.glance_focus.network import (
    GlanceFocusClassifier as GlanceFocusClassifier,
)
