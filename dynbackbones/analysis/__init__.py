"""Looking at trained models: where they refine, what they find, how long they take."""

from dynbackbones.analysis.candidates import Candidate
from dynbackbones.analysis.coverage import (
    RegionCounts,
    RegionCoverage,
    cells_in_image,
    cells_touching,
    count_regions,
    region_masks,
    resize_boxes,
)
from dynbackbones.analysis.latency import Timing, compare, measure
from dynbackbones.analysis.latency_report import UsageFit, break_even_rate, fit_usage, latency_table
from dynbackbones.analysis.pictures import PictureRow, region_brightness, save_region_picture
from dynbackbones.analysis.policies import PolicyGroup, group_by_policy, save_policy_picture
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.analysis.rates_by_objects import RatesByObjects
from dynbackbones.analysis.spread import RateSpread, correlation, save_spread_picture
from dynbackbones.analysis.survey import CocoSamples, Sample, Survey, survey
from dynbackbones.analysis.usage import UsageTable, save_usage_picture

__all__ = [
    "UsageTable",
    "Candidate",
    "CocoSamples",
    "PictureRow",
    "PolicyGroup",
    "Prediction",
    "RateSpread",
    "RatesByObjects",
    "RegionCounts",
    "RegionCoverage",
    "Sample",
    "Survey",
    "Timing",
    "UsageFit",
    "break_even_rate",
    "cells_in_image",
    "cells_touching",
    "compare",
    "correlation",
    "count_regions",
    "fit_usage",
    "group_by_policy",
    "latency_table",
    "measure",
    "region_brightness",
    "region_masks",
    "resize_boxes",
    "save_policy_picture",
    "save_region_picture",
    "save_spread_picture",
    "save_usage_picture",
    "survey",
]
