# SAR's table XIII (alpha 1): whose rate meets the target, the batch's or every image's.
variants = {
    f"{whose}, t {rate}": {
        "model.backbone.loss_reduction": whose,
        "model.backbone.target_rate": rate,
        "model.backbone.alpha": 1,
    }
    for rate in (0.3, 0.5, 0.7)
    for whose in ("batch", "sample")
}
variant_metrics = ["accuracy/top1", "gmacs", "activation_rate"]
