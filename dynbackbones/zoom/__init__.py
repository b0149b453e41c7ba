"""Wrappers for trained models: the whole image at low resolution, chosen patches in full."""

from dynbackbones.zoom.detector import ZoomDetector as ZoomDetector
from dynbackbones.zoom.learned import LearnedPolicy as LearnedPolicy
from dynbackbones.zoom.learned import load_policy as load_policy
from dynbackbones.zoom.segmentor import ZoomSegmentor as ZoomSegmentor
