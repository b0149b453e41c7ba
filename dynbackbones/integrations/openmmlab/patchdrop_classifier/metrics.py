"""Which patches a classifier looks at, as a metric of mmengine's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from mmengine.registry import METRICS

from dynbackbones.integrations.openmmlab.policy_classifiers import PolicyUsage


@METRICS.register_module()
class PatchUsage(PolicyUsage):
    """Patches, pixels, MACs and variety of the policies of a `PatchDropClassifier`.

    ``patches``, ``min_patches``, ``max_patches``, ``patch_rate`` (share of the patches),
    ``pixel_rate`` (pixels looked at over those of the image, the reduced image among them) and
    ``gmacs``; the rest as of `BlockUsage`.
    """

    noun = "patches"
    field = "patch_policy"

    def others(self, sample: dict) -> tuple[float, ...]:
        """The sample's pixel rate."""
        return (sample["pixel_rate"],)

    def shares(self, figures: Mapping[str, float], results: list) -> dict[str, float]:
        """``patch_rate`` and ``pixel_rate``."""
        pixels = statistics.mean(entry[2] for entry in results)
        return {"patch_rate": figures["mean_usage"], "pixel_rate": pixels}
