# SAR's table XII (alpha 1): the authors' schedules of the target rate, 1, 2 and 3 in their numbers.
variants = {
    f"{schedule}, t {rate}": {
        "model.backbone.target_schedule": schedule,
        "model.backbone.target_rate": rate,
        "model.backbone.alpha": 1,
    }
    for schedule in ("constant", "jump", "ramp")
    for rate in (0.3, 0.5, 0.7)
}
variant_metrics = ["accuracy/top1", "gmacs", "activation_rate"]
