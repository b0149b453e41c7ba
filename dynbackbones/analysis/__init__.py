"""Looking at trained models: where they refine, what they find, how long they take."""

from dynbackbones.analysis.coverage import (
    RegionCounts,
    RegionCoverage,
    cells_in_image,
    cells_touching,
    count_regions,
    region_masks,
    resize_boxes,
)
from dynbackbones.analysis.latency import (
    Candidate,
    Timing,
    break_even_rate,
    compare,
    latency_table,
    measure,
)
from dynbackbones.analysis.pictures import PictureRow, region_brightness, save_region_picture
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.analysis.survey import CocoSamples, Sample, Survey, survey

__all__ = [
    "Candidate",
    "CocoSamples",
    "PictureRow",
    "Prediction",
    "RegionCounts",
    "RegionCoverage",
    "Sample",
    "Survey",
    "Timing",
    "break_even_rate",
    "cells_in_image",
    "cells_touching",
    "compare",
    "count_regions",
    "latency_table",
    "measure",
    "region_brightness",
    "region_masks",
    "resize_boxes",
    "save_region_picture",
    "survey",
]
