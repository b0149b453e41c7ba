# SAR's table III as in the paper: SAR-ResNet-32 with four groups beside plain ResNets on CIFAR-100;
# for dynbackbones compare.
_base_ = "sar_resnet32_cifar100.py"
variants = {
    name: {
        "model.backbone": dict(
            _delete_=True, type="CifarResNet", depth=depth, width=width, out_indices=(2,)
        ),
        "model.head.in_channels": 64 * width,
    }
    for name, depth, width in (("ResNet-56", 56, 1), ("ResNet-110", 110, 1), ("ResNet-32x2", 32, 2))
} | {
    f"SAR, G 4, beta {beta}, t {rate}": {
        "model.backbone.groups": 4,
        "model.backbone.beta": beta,
        "model.backbone.target_rate": rate,
    }
    for beta, rate in ((1, 0.5), (1, 0.7), (2, 0.3), (2, 0.6))
}
variant_metrics = ["accuracy/top1", "gmacs", "activation_rate"]
