# SAR's ablations (table I) on CIFAR-10 within minutes of a CPU core each; for dynbackbones compare.
_base_ = [
    "_base_/datasets/cifar10_packed.py",
    "_base_/models/sar_cifar.py",
    "_base_/schedules/plain_64k.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=20, selector_margin=2))
train_dataloader = dict(batch_size=64)
# The selectors' learning rate is higher, so that so short a training reaches its target rate.
optim_wrapper = dict(
    optimizer=dict(nesterov=True),
    paramwise_cfg=dict(custom_keys={"selectors": dict(lr_mult=10)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=50, end=600, eta_min=0, by_epoch=False),
]
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=200))

# Nine in sixteen regions are the middle three quarters of both axes, as in the authors' code, and
# a finer grid lets them be in the middle.
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
