# SAR-ResNet-20 on CIFAR-10 within minutes of a CPU core.
_base_ = [
    "../datasets/cifar10_packed.py",
    "../models/sar_cifar.py",
    "../schedules/plain_64k.py",
    "../runtime.py",
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
