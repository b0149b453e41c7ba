"""mIoU on some of the classes; needs mmseg, so configs import it by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric

from dynbackbones.errors import UserError


@METRICS.register_module()
class SubsetIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` and, beside it, means of the IoU over named classes.

    What is predicted stays as it is: pixels that are taken for a class outside the subset count as
    wrong.

    Args:
        subsets: name of a metric to names of classes.
        ignore_index, nan_to_num, output_dir, format_only, collect_device, prefix: mmseg's.
    """

    def __init__(
        self,
        subsets: Mapping[str, Sequence[str]],
        ignore_index: int = 255,
        nan_to_num: int | None = None,
        output_dir: str | None = None,
        format_only: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            ignore_index=ignore_index,
            iou_metrics=["mIoU"],
            nan_to_num=nan_to_num,
            output_dir=output_dir,
            format_only=format_only,
            collect_device=collect_device,
            prefix=prefix,
        )
        self.subsets = {name: tuple(classes) for name, classes in subsets.items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """mmseg's metrics, and those of the subsets in percent.

        Raises:
            UserError: a subset is empty or has a class that the dataset has not.
        """
        metrics = dict(super().compute_metrics(results))
        if self.format_only:
            return metrics
        areas = [sum(parts) for parts in zip(*results, strict=True)]
        ious = self.total_area_to_metrics(*areas, ["mIoU"], self.nan_to_num)["IoU"]
        known = list(self.dataset_meta["classes"])
        for name, classes in self.subsets.items():
            unknown = [item for item in classes if item not in known]
            if unknown or not classes:
                reason = f"class {unknown[0]!r}" if unknown else "no class"
                raise UserError(
                    f"subset {name} of SubsetIoUMetric has {reason}; the dataset has "
                    f"{', '.join(known)}"
                )
            chosen = [ious[known.index(item)] for item in classes]
            metrics[name] = float(np.round(np.nanmean(chosen) * 100, 2))
        return metrics
