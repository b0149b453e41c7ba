# Quality against computation on BCCD: SAR from the trained plain detector beside plain ones at
# other input sizes. For dynbackbones compare; all rows are trained from the plain detector and for
# as long as each other. So that a training takes about five minutes of a core, images are smaller
# than in retinanet_r18.yaml and schedules shorter: differences count here, not the level.
detector = "configs/bccd/retinanet_r18.yaml"


def at(size):
    # Cells are smaller too, and so are anchors.
    anchors = [
        [32 * size / 480 * 2 ** (level + third / 3) for third in range(3)] for level in range(5)
    ]
    return {
        "INPUT.MIN_SIZE_TRAIN": [size],
        "INPUT.MIN_SIZE_TEST": size,
        "MODEL.ANCHOR_GENERATOR.SIZES": anchors,
    }


common = {
    **at(180),
    "SOLVER.MAX_ITER": 300,
    "SOLVER.WARMUP_ITERS": 50,
    "SOLVER.CHECKPOINT_PERIOD": 150,
}
as_long = {
    **common,
    "_start_": "plain",
    "SOLVER.MAX_ITER": 150,
    "SOLVER.BASE_LR": 0.0075,
    "SOLVER.CHECKPOINT_PERIOD": 75,
}
paper = {
    "_rates_": [0.3, 0.5],
    "MODEL.BACKBONE.NAME": "build_retinanet_sar_resnet_fpn_backbone",
    "MODEL.SAR.DEPTH": 18,
    "MODEL.SAR.SELECTOR_MARGIN": 2.0,
    "MODEL.SAR.SELECTOR_LR_FACTOR": 10.0,
}
sar = {
    **as_long,
    **paper,
    "MODEL.SAR.LAYOUT": "resnet",
    "MODEL.SAR.TARGET_RATE": 0.3,
    "MODEL.SAR.LOSS_RATE": "expected",
    "MODEL.SAR.LOSS_WEIGHT": 2.0,
    "MODEL.SAR.TRACK_TARGET": True,
}
guided = {**sar, "MODEL.SAR.GUIDANCE": "objects", "MODEL.SAR.GUIDANCE_WEIGHT": 0.25}
deeper = {"_run_": False, "MODEL.RESNETS.DEPTH": 34, "MODEL.SAR.DEPTH": 34}

variants = {
    "plain, as long": as_long,
    "plain": common,
    "plain, 158 px": {**as_long, **at(158)},
    "SAR": sar,
    "SAR, guided": guided,
    "plain, 140 px": {**as_long, **at(140), "_run_": False},
    "plain ResNet-34": {**common, **deeper},
    "plain ResNet-34, as long": {**as_long, **deeper, "_start_": "plain ResNet-34"},
    "SAR ResNet-34, guided": {**guided, **deeper, "_start_": "plain ResNet-34"},
    "SAR, paper's layout from scratch": {
        **common,
        **paper,
        "_run_": False,
        "SOLVER.MAX_ITER": 450,
    },
}
variant_metrics = [
    "bbox/AP", "bbox/AP50", "gmacs", "activation_rate", "object_ratio_res2", "object_ratio_res3",
    "object_ratio_res4", "milliseconds",
]  # fmt: skip
