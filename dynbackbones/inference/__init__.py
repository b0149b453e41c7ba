"""Trained networks made cheaper: thresholds moved, weights prepared."""

from dynbackbones.inference.allocator import tune_allocator as tune_allocator
from dynbackbones.inference.calibration import backbone_inputs as backbone_inputs
from dynbackbones.inference.calibration import calibrate as calibrate
from dynbackbones.inference.optimization import fold_norms as fold_norms
from dynbackbones.inference.optimization import optimize_for_inference as optimize_for_inference
from dynbackbones.inference.time_budget import ReachedTime as ReachedTime
