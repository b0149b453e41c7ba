"""Which of detectron2's configuration keys the torchvision engine knows, and their defaults."""

from __future__ import annotations

from collections.abc import Iterator

from fvcore.common.config import CfgNode

from dynbackbones.backbones.factory import registered_backbones
from dynbackbones.integrations.config import add_dynbackbones_config, builder_names
from dynbackbones.integrations.options import stands_in_yaml

# detectron2's defaults. A run reads the same YAML in both engines, so they must stay the same
# (a test compares them).
_DEFAULTS = {
    "VERSION": 2,
    "MODEL": {
        "MASK_ON": False,
        "KEYPOINT_ON": False,
        "LOAD_PROPOSALS": False,
        "DEVICE": "cuda",
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHTS": "",
        "PIXEL_MEAN": [103.53, 116.28, 123.675],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
        "RESNETS": {
            "DEPTH": 50,
            "OUT_FEATURES": ["res4"],
            "NORM": "FrozenBN",
            "STRIDE_IN_1X1": True,
            "NUM_GROUPS": 1,
            "WIDTH_PER_GROUP": 64,
            "RES5_DILATION": 1,
            "RES2_OUT_CHANNELS": 256,
            "STEM_OUT_CHANNELS": 64,
        },
        "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"},
        "ANCHOR_GENERATOR": {
            "NAME": "DefaultAnchorGenerator",
            "SIZES": [[32, 64, 128, 256, 512]],
            "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
            "OFFSET": 0.0,
        },
        "RETINANET": {
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
            "NUM_CONVS": 4,
            "IOU_THRESHOLDS": [0.4, 0.5],
            "PRIOR_PROB": 0.01,
            "SCORE_THRESH_TEST": 0.05,
            "TOPK_CANDIDATES_TEST": 1000,
            "NMS_THRESH_TEST": 0.5,
            "FOCAL_LOSS_GAMMA": 2.0,
            "FOCAL_LOSS_ALPHA": 0.25,
            "SMOOTH_L1_LOSS_BETA": 0.1,
            "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "NORM": "",
        },
        "PROPOSAL_GENERATOR": {"NAME": "RPN"},
        "RPN": {
            "HEAD_NAME": "StandardRPNHead",
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.3, 0.7],
            "BATCH_SIZE_PER_IMAGE": 256,
            "POSITIVE_FRACTION": 0.5,
            "PRE_NMS_TOPK_TRAIN": 12000,
            "PRE_NMS_TOPK_TEST": 6000,
            "POST_NMS_TOPK_TRAIN": 2000,
            "POST_NMS_TOPK_TEST": 1000,
            "NMS_THRESH": 0.7,
            "CONV_DIMS": [-1],
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeads",
            "NUM_CLASSES": 80,
            "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.5],
            "BATCH_SIZE_PER_IMAGE": 512,
            "POSITIVE_FRACTION": 0.25,
            "SCORE_THRESH_TEST": 0.05,
            "NMS_THRESH_TEST": 0.5,
        },
        "ROI_BOX_HEAD": {
            "NAME": "",
            "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
            "POOLER_TYPE": "ROIAlignV2",
            "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0,
            "NUM_FC": 0,
            "FC_DIM": 1024,
            "NUM_CONV": 0,
            "CONV_DIM": 256,
        },
    },
    "INPUT": {
        "MIN_SIZE_TRAIN": (800,),
        "MIN_SIZE_TRAIN_SAMPLING": "choice",
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,
        "MAX_SIZE_TEST": 1333,
        "RANDOM_FLIP": "horizontal",
        "FORMAT": "BGR",
        "CROP": {"ENABLED": False},
    },
    "DATASETS": {"TRAIN": (), "TEST": ()},
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "ASPECT_RATIO_GROUPING": True,
        "SAMPLER_TRAIN": "TrainingSampler",
        "FILTER_EMPTY_ANNOTATIONS": True,
    },
    "SOLVER": {
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "MAX_ITER": 40000,
        "BASE_LR": 0.001,
        "BASE_LR_END": 0.0,
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "WEIGHT_DECAY": 0.0001,
        "WEIGHT_DECAY_NORM": 0.0,
        "WEIGHT_DECAY_BIAS": None,
        "BIAS_LR_FACTOR": 1.0,
        "GAMMA": 0.1,
        "STEPS": (30000,),
        "WARMUP_FACTOR": 0.001,
        "WARMUP_ITERS": 1000,
        "WARMUP_METHOD": "linear",
        "CHECKPOINT_PERIOD": 5000,
        "IMS_PER_BATCH": 16,
        "REFERENCE_WORLD_SIZE": 0,
        "CLIP_GRADIENTS": {
            "ENABLED": False,
            "CLIP_TYPE": "value",
            "CLIP_VALUE": 1.0,
            "NORM_TYPE": 2.0,
        },
        "AMP": {"ENABLED": False},
    },
    "TEST": {
        "EVAL_PERIOD": 0,
        "DETECTIONS_PER_IMAGE": 100,
        "AUG": {"ENABLED": False},
        "PRECISE_BN": {"ENABLED": False},
    },
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "VIS_PERIOD": 0,
}

# Values that this engine can honour, where it cannot honour all.
CHOICES = {
    "VERSION": (2,),
    "MODEL.MASK_ON": (False,),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.LOAD_PROPOSALS": (False,),
    "MODEL.META_ARCHITECTURE": ("RetinaNet", "GeneralizedRCNN"),
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101),
    "MODEL.RESNETS.NORM": ("BN", "SyncBN", "FrozenBN"),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": (64,),
    "MODEL.FPN.NORM": ("", "BN", "GN"),
    "MODEL.FPN.FUSE_TYPE": ("sum",),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (0.0,),
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.RETINANET.NORM": ("", "GN"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.RANDOM_FLIP": ("horizontal", "none"),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "INPUT.CROP.ENABLED": (False,),
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler",),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.REFERENCE_WORLD_SIZE": (0,),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "TEST.AUG.ENABLED": (False,),
    "TEST.PRECISE_BN.ENABLED": (False,),
    "VIS_PERIOD": (0,),
}

# The same for keys that only Faster R-CNN reads: their defaults belong to detectron2's C4 models.
RCNN_CHOICES = {
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads",),
    "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2",),
}

# detectron2's remaining keys, so that they are told from misspelt ones.
_DETECTRON2_ONLY = {
    "": "FLOAT32_PRECISION",
    "GLOBAL": "HACK",
    "MODEL.PROPOSAL_GENERATOR": "MIN_SIZE",
    "MODEL.ANCHOR_GENERATOR": "ANGLES",
    "MODEL.RPN": "BOUNDARY_THRESH IOU_LABELS BBOX_REG_LOSS_TYPE BBOX_REG_LOSS_WEIGHT "
    "BBOX_REG_WEIGHTS SMOOTH_L1_BETA LOSS_WEIGHT",
    "MODEL.ROI_HEADS": "IOU_LABELS PROPOSAL_APPEND_GT",
    "MODEL.ROI_BOX_HEAD": "BBOX_REG_LOSS_TYPE BBOX_REG_LOSS_WEIGHT SMOOTH_L1_BETA NORM "
    "CLS_AGNOSTIC_BBOX_REG TRAIN_ON_PRED_BOXES USE_FED_LOSS USE_SIGMOID_CE "
    "FED_LOSS_FREQ_WEIGHT_POWER FED_LOSS_NUM_CLASSES",
    "MODEL.ROI_BOX_CASCADE_HEAD": "BBOX_REG_WEIGHTS IOUS",
    "MODEL.ROI_MASK_HEAD": "NAME POOLER_RESOLUTION POOLER_SAMPLING_RATIO POOLER_TYPE NUM_CONV "
    "CONV_DIM NORM CLS_AGNOSTIC_MASK",
    "MODEL.ROI_KEYPOINT_HEAD": "NAME POOLER_RESOLUTION POOLER_SAMPLING_RATIO POOLER_TYPE "
    "CONV_DIMS NUM_KEYPOINTS MIN_KEYPOINTS_PER_IMAGE NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS "
    "LOSS_WEIGHT",
    "MODEL.SEM_SEG_HEAD": "NAME IN_FEATURES IGNORE_VALUE NUM_CLASSES CONVS_DIM COMMON_STRIDE "
    "NORM LOSS_WEIGHT",
    "MODEL.PANOPTIC_FPN": "INSTANCE_LOSS_WEIGHT COMBINE.ENABLED COMBINE.OVERLAP_THRESH "
    "COMBINE.STUFF_AREA_LIMIT COMBINE.INSTANCES_CONFIDENCE_THRESH",
    "MODEL.RETINANET": "IOU_LABELS BBOX_REG_WEIGHTS",
    "MODEL.RESNETS": "DEFORM_ON_PER_STAGE DEFORM_MODULATED DEFORM_NUM_GROUPS",
    "INPUT": "MASK_FORMAT CROP.TYPE CROP.SIZE",
    "DATASETS": "PROPOSAL_FILES_TRAIN PROPOSAL_FILES_TEST PRECOMPUTED_PROPOSAL_TOPK_TRAIN "
    "PRECOMPUTED_PROPOSAL_TOPK_TEST",
    "DATALOADER": "REPEAT_THRESHOLD REPEAT_SQRT",
    "SOLVER": "NUM_DECAYS RESCALE_INTERVAL",
    "TEST": "EXPECTED_RESULTS KEYPOINT_OKS_SIGMAS AUG.MIN_SIZES AUG.MAX_SIZE AUG.FLIP "
    "PRECISE_BN.NUM_ITER",
}
DETECTRON2_ONLY = frozenset(
    f"{node}.{key}".lstrip(".") for node, keys in _DETECTRON2_ONLY.items() for key in keys.split()
)


def backbone_names(top_block: str) -> list[str]:
    """What ``MODEL.BACKBONE.NAME`` can be.

    Args:
        top_block: end of the pyramid on it; see `builder_names`.
    """
    entries = registered_backbones().values()
    return [builder_names(entry)[top_block] for entry in entries if stands_in_yaml(entry)]


def get_cfg() -> CfgNode:
    """A config with every key of the torchvision engine at its default."""
    cfg = CfgNode(_DEFAULTS)
    add_dynbackbones_config(cfg)
    return cfg


def leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(full key, value) of every value in a config."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
