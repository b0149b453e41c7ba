# SAR's table II: channel groups against the target rate.
variants = {
    f"G {groups}, t {rate}": {
        "model.backbone.groups": groups,
        "model.backbone.target_rate": rate,
    }
    for groups in (1, 2, 4)
    for rate in (0.3, 0.5, 0.7)
}
variant_metrics = ["accuracy/top1", "gmacs", "activation_rate"]
