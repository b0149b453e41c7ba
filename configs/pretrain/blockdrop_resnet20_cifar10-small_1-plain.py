# BlockDrop on CIFAR-10 within minutes on one CPU core, first stage: the plain ResNet-20.
_base_ = [
    "_base_/models/blockdrop_cifar.py",
    "_base_/datasets/cifar10_packed.py",
    "_base_/schedules/plain_small.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=20), stage="plain", channels_last=True)
default_hooks = dict(checkpoint=dict(interval=100))
