# SAR's table XI: channels of both branches and the base branch's size, against the target rate.
variants = {
    f"alpha {alpha}, beta {beta}, s {scale}, t {rate}": {
        "model.backbone.alpha": alpha,
        "model.backbone.beta": beta,
        "model.backbone.base_scale": scale,
        "model.backbone.target_rate": rate,
    }
    for alpha, beta, scale in ((1, 1, 4), (1, 1, 2), (2, 1, 2), (2, 2, 2))
    for rate in (0.3, 0.5, 0.7)
}
variant_metrics = ["accuracy/top1", "gmacs", "activation_rate"]
