"""torchvision's RetinaNet and Faster R-CNN with FPN on the backbones of this package."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from dynbackbones.backbones import Backbone
from dynbackbones.errors import UserError
from dynbackbones.integrations.attach import attach
from dynbackbones.integrations.config import (
    build_backbone,
    chosen_backbone,
    learns_policy,
    num_classes,
    reward_options,
)
from dynbackbones.integrations.torchvision.heads import (
    NORMS,
    ClassificationHead,
    RegressionHead,
    retinanet_head,
)
from dynbackbones.training.policy import attach_policy_training, one_image_loss

# Extra levels of the pyramid as torchvision names them, and as detectron2 does.
_LEVEL_NAMES = {"pool": "p6"}


class FPNBackbone(nn.Module):
    """A backbone with a feature pyramid, as torchvision's detectors want it.

    Args:
        body: the backbone.
        in_features: its features that enter the pyramid, from high to low resolution.
        levels: of the pyramid to return: ``p3`` is made from ``res3`` and so on; above ``res5``
            come ``p6`` and ``p7``.
        out_channels: of every level.
        strided_levels: make p6 and p7 with strided convolutions (RetinaNet) instead of p6 by
            max-pooling (Faster R-CNN).
        norm: ``""``, ``"BN"`` or ``"GN"``.

    Attributes:
        complete: whether all levels that are made are returned, so that all parameters are trained.

    Raises:
        UserError: a feature or a level does not exist.
    """

    def __init__(
        self,
        body: Backbone,
        in_features: Sequence[str],
        levels: Sequence[str],
        out_channels: int,
        *,
        strided_levels: bool,
        norm: str = "",
    ) -> None:
        super().__init__()
        unknown = [name for name in in_features if name not in body.feature_info]
        if unknown or not in_features or in_features[-1] != "res5":
            raise UserError(
                f"MODEL.FPN.IN_FEATURES must be among {', '.join(body.feature_info)} and end with "
                f"res5, got {list(in_features)}"
            )
        made = [name.replace("res", "p") for name in in_features]
        extra = ["p6", "p7"] if strided_levels else ["p6"]
        unknown = [name for name in levels if name not in made + extra]
        if unknown or not levels:
            raise UserError(
                f"IN_FEATURES of the detector must be among {', '.join(made + extra)}, got "
                f"{list(levels)}"
            )
        self.body = body
        self.in_features = tuple(in_features)
        self.levels = tuple(levels)
        self.out_channels = out_channels
        channels = [body.feature_info[name].channels for name in in_features]
        extra_blocks = None
        if set(extra) & set(levels):
            made += extra
            extra_blocks = LastLevelMaxPool()
            if strided_levels:
                extra_blocks = LastLevelP6P7(channels[-1], out_channels)
        self.complete = set(made) == set(levels)
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra_blocks, NORMS[norm])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.body(images)
        pyramid = self.fpn(OrderedDict((name, features[name]) for name in self.in_features))
        named = {
            _LEVEL_NAMES.get(name, name.replace("res", "p")): level
            for name, level in pyramid.items()
        }
        return OrderedDict((name, named[name]) for name in self.levels)


class BatchTransform(GeneralizedRCNNTransform):
    """Normalises and pads images that the data pipeline has already resized."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], size_divisible: int) -> None:
        super().__init__(0, 0, list(mean), list(std), size_divisible)

    def resize(self, image: Tensor, target: dict | None = None):
        return image, target


def build_detector(cfg: CfgNode) -> RetinaNet | FasterRCNN:
    """torchvision's detector for a config, with auxiliary losses and policy training attached.

    It takes torchvision's arguments: a list of (3, H, W) float images, here with values from 0 to
    255, channels in the order of ``INPUT.FORMAT`` and already resized, and in training a list of
    ``{"boxes", "labels"}``. Labels are torchvision's: 0 is the background.

    Args:
        cfg: of `load_config`.

    Raises:
        UserError: options do not fit together.
    """
    build = {"RetinaNet": _retinanet, "GeneralizedRCNN": _faster_rcnn}
    body = build_backbone(cfg, chosen_backbone(cfg))
    model = build[cfg.MODEL.META_ARCHITECTURE](cfg, body)
    stride = max(info.stride for info in body.feature_info.values())
    model.transform = BatchTransform(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, stride)
    attach(model)
    if learns_policy(cfg):
        attach_policy_training(model, one_image_loss, reward_options(cfg))
    return model


def _retinanet(cfg: CfgNode, body: Backbone) -> RetinaNet:
    options = cfg.MODEL.RETINANET
    backbone = _pyramid(cfg, body, options.IN_FEATURES, strided_levels=True)
    anchors = _anchors(cfg, len(options.IN_FEATURES))
    count = anchors.num_anchors_per_location()[0]
    shared = {"num_convs": options.NUM_CONVS, "norm": NORMS[options.NORM]}
    head = retinanet_head(
        ClassificationHead(
            backbone.out_channels,
            count,
            num_classes(cfg) + 1,
            prior=options.PRIOR_PROB,
            alpha=options.FOCAL_LOSS_ALPHA,
            gamma=options.FOCAL_LOSS_GAMMA,
            **shared,
        ),
        RegressionHead(backbone.out_channels, count, beta=options.SMOOTH_L1_LOSS_BETA, **shared),
    )
    background, foreground = options.IOU_THRESHOLDS
    return RetinaNet(
        backbone,
        num_classes(cfg) + 1,
        anchor_generator=anchors,
        head=head,
        bg_iou_thresh=background,
        fg_iou_thresh=foreground,
        score_thresh=options.SCORE_THRESH_TEST,
        nms_thresh=options.NMS_THRESH_TEST,
        topk_candidates=options.TOPK_CANDIDATES_TEST,
        detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _faster_rcnn(cfg: CfgNode, body: Backbone) -> FasterRCNN:
    rpn, heads, box = cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
    backbone = _pyramid(cfg, body, rpn.IN_FEATURES, strided_levels=False)
    unknown = [name for name in heads.IN_FEATURES if name not in rpn.IN_FEATURES]
    if unknown:
        raise UserError(
            f"MODEL.ROI_HEADS.IN_FEATURES has {', '.join(unknown)}, which MODEL.RPN.IN_FEATURES "
            "has not; the torchvision engine needs it there too"
        )
    anchors = _anchors(cfg, len(rpn.IN_FEATURES))
    box_head, width = _box_head(box, backbone.out_channels)
    (threshold,) = heads.IOU_THRESHOLDS
    background, foreground = rpn.IOU_THRESHOLDS
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(
            backbone.out_channels,
            anchors.num_anchors_per_location()[0],
            conv_depth=len(rpn.CONV_DIMS),
        ),
        rpn_pre_nms_top_n_train=rpn.PRE_NMS_TOPK_TRAIN,
        rpn_pre_nms_top_n_test=rpn.PRE_NMS_TOPK_TEST,
        rpn_post_nms_top_n_train=rpn.POST_NMS_TOPK_TRAIN,
        rpn_post_nms_top_n_test=rpn.POST_NMS_TOPK_TEST,
        rpn_nms_thresh=rpn.NMS_THRESH,
        rpn_fg_iou_thresh=foreground,
        rpn_bg_iou_thresh=background,
        rpn_batch_size_per_image=rpn.BATCH_SIZE_PER_IMAGE,
        rpn_positive_fraction=rpn.POSITIVE_FRACTION,
        box_roi_pool=MultiScaleRoIAlign(
            list(heads.IN_FEATURES), box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO
        ),
        box_head=box_head,
        box_predictor=FastRCNNPredictor(width, num_classes(cfg) + 1),
        box_score_thresh=heads.SCORE_THRESH_TEST,
        box_nms_thresh=heads.NMS_THRESH_TEST,
        box_detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
        box_fg_iou_thresh=threshold,
        box_bg_iou_thresh=threshold,
        box_batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
        box_positive_fraction=heads.POSITIVE_FRACTION,
        bbox_reg_weights=tuple(box.BBOX_REG_WEIGHTS),
    )


def _box_head(box: CfgNode, channels: int) -> tuple[FastRCNNConvFCHead, int]:
    """The head of ``MODEL.ROI_BOX_HEAD`` on a pyramid, and the width of what it returns."""
    resolution = box.POOLER_RESOLUTION
    head = FastRCNNConvFCHead(
        (channels, resolution, resolution),
        [box.CONV_DIM] * box.NUM_CONV,
        [box.FC_DIM] * box.NUM_FC,
    )
    channels = box.CONV_DIM if box.NUM_CONV else channels
    return head, box.FC_DIM if box.NUM_FC else channels * resolution**2


def _pyramid(
    cfg: CfgNode, body: Backbone, levels: Sequence[str], *, strided_levels: bool
) -> FPNBackbone:
    fpn = cfg.MODEL.FPN
    return FPNBackbone(
        body,
        fpn.IN_FEATURES,
        levels,
        fpn.OUT_CHANNELS,
        strided_levels=strided_levels,
        norm=fpn.NORM,
    )


def _anchors(cfg: CfgNode, levels: int) -> AnchorGenerator:
    """Anchors of every level; one list of sizes or ratios stands for all levels."""
    per_level = []
    for key in ("SIZES", "ASPECT_RATIOS"):
        values = cfg.MODEL.ANCHOR_GENERATOR[key]
        if len(values) not in (1, levels) or len({len(value) for value in values}) != 1:
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR.{key} must have 1 or {levels} lists of equal length, one "
                f"for each level of the pyramid, got {values}"
            )
        values = values if len(values) == levels else list(values) * levels
        per_level.append(tuple(tuple(value) for value in values))
    return AnchorGenerator(*per_level)
