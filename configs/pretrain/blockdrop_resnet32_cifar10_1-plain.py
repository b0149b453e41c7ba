# BlockDrop on CIFAR-10, first stage of three: the plain ResNet-32.
_base_ = [
    "_base_/models/blockdrop_cifar.py",
    "_base_/datasets/cifar10.py",
    "_base_/schedules/plain_64k.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=32), stage="plain")
