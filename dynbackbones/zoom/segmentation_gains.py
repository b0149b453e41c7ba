"""What a closer look at each patch is worth to a segmentor, against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynbackbones.errors import UserError
from dynbackbones.layers.patches import PatchGrid
from dynbackbones.zoom.images import ImageSource
from dynbackbones.zoom.learned import describe
from dynbackbones.zoom.merge_maps import rows_and_columns
from dynbackbones.zoom.policies import center, entropy, random
from dynbackbones.zoom.segmentor import ZoomSegmentor

IGNORED = 255
UNTRAINED = {"random": random, "center": center, "entropy": entropy}


@dataclass(frozen=True)
class MeasuredMaps:
    """Both passes over an image: what any selection of its patches would give.

    Confusion matrices add over patches, so that nothing else of the maps is kept.

    Attributes:
        grid: the image's patches.
        coarse, fine: (P, K, K) int64, pixels of each patch: row the true class, column the
            predicted one.
        described: (P, D) of `describe`; None of a segmentor without features.
        values: (P,) of each policy of ``UNTRAINED``.
    """

    grid: PatchGrid
    coarse: Tensor
    fine: Tensor
    described: Tensor | None
    values: dict[str, Tensor]

    def confusion(self, chosen: Tensor) -> Tensor:
        """(K, K) of the whole image if the patches of a (P,) bool mask are looked at closely."""
        return torch.where(chosen[:, None, None], self.fine, self.coarse).sum(dim=0)

    def gains(self, weights: Tensor | None = None) -> Tensor:
        """(P,) pixels that only a closer look gets right less those that it spoils.

        Args:
            weights: (K,) what a pixel of each class counts; by default all 1.

        Returns:
            In hundredths of a patch's pixels. Pixels without a true class count nothing.
        """
        right = (self.fine - self.coarse).diagonal(dim1=1, dim2=2).double()
        if weights is not None:
            right = right * weights
        return (100 * right.sum(dim=1) / self.grid.edge**2).float()


def measure_maps(
    zoom: ZoomSegmentor, image: Tensor | ImageSource, truth: Tensor, ignored: int = IGNORED
) -> MeasuredMaps:
    """Runs both passes over an image, and the fine one over every patch.

    Args:
        zoom: the wrapped segmentor.
        image: as for `ZoomSegmentor.looks`.
        truth: (H, W) classes.
        ignored: the value of pixels without a class.

    Raises:
        UserError: the truth is of another size, or has a class that the segmentor has not.
    """
    coarse, _ = zoom.looks(image)
    count = zoom.adapter.num_classes
    truth = truth.to(coarse.logits.device)
    if tuple(truth.shape) != coarse.grid.size:
        raise UserError(
            f"the labels are of {tuple(truth.shape)} pixels and their image of {coarse.grid.size}; "
            "LoadAnnotations must see what the image's file has"
        )
    rough, fine = zoom.merged(coarse, {}), zoom.closely(image)
    before, after = [], []
    for patch, core in enumerate(coarse.grid.cores):
        inside = rows_and_columns(core)
        before.append(confusion(rough[inside], truth[inside], count, ignored))
        after.append(confusion(fine[patch], truth[inside], count, ignored))
    described = None if coarse.features is None else describe(coarse, count).cpu()
    values = {name: policy(coarse).cpu() for name, policy in UNTRAINED.items()}
    return MeasuredMaps(coarse.grid, torch.stack(before), torch.stack(after), described, values)


def confusion(labels: Tensor, truth: Tensor, num_classes: int, ignored: int = IGNORED) -> Tensor:
    """(K, K) int64 on the CPU, pixels by true (row) and predicted class (column).

    Raises:
        UserError: the truth has a class of K or more that is not ``ignored``.
    """
    counted = truth != ignored
    truth, labels = truth[counted].long(), labels[counted].long()
    if len(truth) and int(truth.max()) >= num_classes:
        raise UserError(
            f"the labels have class {int(truth.max())}, and the segmentor knows {num_classes} "
            f"(0 to {num_classes - 1}, and {ignored} for pixels that do not count)"
        )
    pairs = torch.bincount(truth * num_classes + labels, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes).cpu()


def mean_iou(matrix: Tensor) -> float:
    """Mean intersection over union in percent, of the classes that are there or predicted."""
    matrix = matrix.double()
    right = matrix.diagonal()
    union = matrix.sum(dim=0) + matrix.sum(dim=1) - right
    return float(100 * (right / union)[union > 0].mean())


def class_weights(measured: Sequence[MeasuredMaps]) -> Tensor:
    """(K,) so that each class counts the same in all images, and a pixel 1 in the mean.

    Classes that do not occur count 0.
    """
    pixels = sum(m.coarse.sum(dim=(0, 2)) for m in measured).double()
    present = pixels > 0
    weights = torch.zeros_like(pixels)
    weights[present] = pixels.sum() / (present.sum() * pixels[present])
    return weights
