"""Classifiers that choose which patches of an image they look at in full resolution."""

from dynbackbones.classifiers.bagnet import BagNet as BagNet
from dynbackbones.classifiers.decisions import PatchDecisions as PatchDecisions
from dynbackbones.classifiers.factory import build_classifier as build_classifier
from dynbackbones.classifiers.factory import list_classifiers as list_classifiers
from dynbackbones.classifiers.glance_focus import FocusDecisions as FocusDecisions
from dynbackbones.classifiers.glance_focus import FocusLearning as FocusLearning
from dynbackbones.classifiers.glance_focus import GlanceFocusClassifier as GlanceFocusClassifier
from dynbackbones.classifiers.hard_positives import hard_positives as hard_positives
from dynbackbones.classifiers.learning import PatchLearning as PatchLearning
from dynbackbones.classifiers.patchdrop import PatchDrop as PatchDrop
from dynbackbones.classifiers.selection import PatchSelection as PatchSelection
