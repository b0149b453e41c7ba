# SAR's table I: branches and regions. Nine in sixteen regions are the middle three quarters of both
# axes, as in the authors' code, and a finer grid lets them be in the middle.
variants = {
    "SAR, learned regions": {},
    "base branch": {"model.backbone.branches": "base", "model.backbone.alpha": 1},
    "refinement branch": {"model.backbone.branches": "refinement"},
    "center regions": {
        "model.backbone.selection": "center",
        "model.backbone.selection_rate": 0.5625,
        "model.backbone.cell_size": (4, 2, 1),
    },
    "uniform regions": {"model.backbone.selection": "uniform"},
    "ResNet-32": {
        "model.backbone": dict(_delete_=True, type="CifarResNet", depth=32, out_indices=(2,)),
        "model.head.in_channels": 64,
    },
}
variant_metrics = ["accuracy/top1", "gmacs", "activation_rate"]
