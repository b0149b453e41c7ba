# Quality against computation on the demo: SAR from the trained plain detector beside plain ones at
# other input sizes. For dynbackbones compare; all rows are trained from the plain detector and for
# as long as each other.
detector = "configs/demo/retinanet.yaml"

as_long = {
    "_start_": "plain",
    "SOLVER.MAX_ITER": 600,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.CHECKPOINT_PERIOD": 300,
}
sar = {
    **as_long,
    "_rates_": [0.3, 0.5],
    "MODEL.BACKBONE.NAME": "build_retinanet_sar_resnet_fpn_backbone",
    "MODEL.SAR.LAYOUT": "resnet",
    "MODEL.SAR.TARGET_RATE": 0.3,
    "MODEL.SAR.LOSS_RATE": "expected",
    "MODEL.SAR.LOSS_WEIGHT": 2.0,
    "MODEL.SAR.TRACK_TARGET": True,
}
guided = {**sar, "MODEL.SAR.GUIDANCE": "objects", "MODEL.SAR.GUIDANCE_WEIGHT": 0.25}
by_gain = {**guided, "_run_": False, "MODEL.SAR.GUIDANCE": "gain"}
deeper = {"_run_": False, "MODEL.RESNETS.DEPTH": 34, "MODEL.SAR.DEPTH": 34}


def smaller(size):
    # Digits are smaller too, and so are anchors.
    anchors = [[16, 24], [32, 40], [52, 64]]
    return {
        **as_long,
        "INPUT.MIN_SIZE_TRAIN": [size],
        "INPUT.MIN_SIZE_TEST": size,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[x * size / 160 for x in level] for level in anchors],
    }


variants = {
    "plain, as long": as_long,
    "plain": {"SOLVER.CHECKPOINT_PERIOD": 500},
    "plain, 140 px": smaller(140),
    "SAR": sar,
    "SAR, guided": guided,
    "SAR, guided by gain": by_gain,
    "plain, 125 px": {**smaller(125), "_run_": False},
    "plain ResNet-34": {**deeper, "SOLVER.CHECKPOINT_PERIOD": 500},
    "plain ResNet-34, as long": {**as_long, **deeper, "_start_": "plain ResNet-34"},
    "SAR ResNet-34, guided": {**guided, **deeper, "_start_": "plain ResNet-34"},
    "SAR, paper's layout from scratch": {
        "_run_": False,
        "_rates_": [0.3, 0.5],
        "MODEL.BACKBONE.NAME": "build_retinanet_sar_resnet_fpn_backbone",
        "SOLVER.MAX_ITER": 1600,
        "SOLVER.CHECKPOINT_PERIOD": 800,
    },
}
variant_metrics = [
    "bbox/AP", "bbox/AP50", "gmacs", "activation_rate", "object_ratio_res2", "object_ratio_res3",
    "object_ratio_res4", "milliseconds",
]  # fmt: skip
