"""torchvision's RetinaNet heads with detectron2's options: depth, focal loss, smooth L1."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.retinanet import (
    RetinaNetClassificationHead,
    RetinaNetHead,
    RetinaNetRegressionHead,
)
from torchvision.ops import Conv2dNormActivation, sigmoid_focal_loss

# torchvision's mark of anchors that are neither foreground nor background.
_BETWEEN_THRESHOLDS = -2


def group_norm(channels: int) -> nn.GroupNorm:
    """detectron2's "GN"."""
    return nn.GroupNorm(32, channels)


NORMS = {"": None, "BN": nn.BatchNorm2d, "GN": group_norm}


class ClassificationHead(RetinaNetClassificationHead):
    """Class scores of every anchor, trained with the focal loss (Lin et al., 2017).

    Args:
        channels: of the pyramid.
        num_anchors: per location.
        num_classes: including the background, which no anchor is ever labelled with.
        num_convs: 3x3 convolutions before the last.
        norm: constructor of their norm layers; None for none.
        prior: probability that an anchor is foreground, at the start.
        alpha, gamma: of the focal loss.
    """

    def __init__(
        self,
        channels: int,
        num_anchors: int,
        num_classes: int,
        *,
        num_convs: int = 4,
        norm=None,
        prior: float = 0.01,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__(channels, num_anchors, num_classes, prior_probability=prior)
        self.conv = _tower(channels, num_convs, norm)
        self.focal_loss = partial(sigmoid_focal_loss, alpha=alpha, gamma=gamma, reduction="sum")

    def compute_loss(self, targets, head_outputs, matched_idxs) -> Tensor:
        """Sum over anchors, divided by the image's foreground anchors; mean over images."""
        losses = []
        for target, logits, matched in zip(
            targets, head_outputs["cls_logits"], matched_idxs, strict=True
        ):
            foreground = matched >= 0
            wanted = logits.new_zeros(logits.shape)
            wanted[foreground, target["labels"][matched[foreground]]] = 1.0
            counted = matched != _BETWEEN_THRESHOLDS
            loss = self.focal_loss(logits[counted].float(), wanted[counted].float())
            losses.append(loss / foreground.sum().clamp(min=1))
        return sum(losses) / len(losses)


class RegressionHead(RetinaNetRegressionHead):
    """Box offsets of every anchor, trained with smooth L1.

    Args:
        channels, num_anchors, num_convs, norm: as for `ClassificationHead`.
        beta: where the loss turns from L2 to L1; 0 for L1 throughout.
    """

    def __init__(
        self, channels: int, num_anchors: int, *, num_convs: int = 4, norm=None, beta: float = 0.1
    ) -> None:
        super().__init__(channels, num_anchors)
        self.conv = _tower(channels, num_convs, norm)
        self.beta = beta

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs) -> Tensor:
        """Sum over foreground anchors, divided by their number; mean over images."""
        losses = []
        for target, offsets, boxes, matched in zip(
            targets, head_outputs["bbox_regression"], anchors, matched_idxs, strict=True
        ):
            foreground = matched >= 0
            wanted = self.box_coder.encode_single(
                target["boxes"][matched[foreground]], boxes[foreground]
            )
            loss = F.smooth_l1_loss(
                offsets[foreground].float(), wanted, beta=self.beta, reduction="sum"
            )
            losses.append(loss / foreground.sum().clamp(min=1))
        return sum(losses) / len(losses)


def retinanet_head(classification: ClassificationHead, regression: RegressionHead) -> RetinaNetHead:
    """torchvision's pair of heads, with these two in it."""
    channels, anchors = classification.cls_logits.in_channels, classification.num_anchors
    head = RetinaNetHead(channels, anchors, classification.num_classes)
    head.classification_head = classification
    head.regression_head = regression
    return head


def _tower(channels: int, num_convs: int, norm) -> nn.Sequential:
    convs = [Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(num_convs)]
    for conv in convs:
        nn.init.normal_(conv[0].weight, std=0.01)
        if conv[0].bias is not None:
            nn.init.zeros_(conv[0].bias)
    return nn.Sequential(*convs)
