# SAR-ResNet-20 on CIFAR-10 at the width and length of the tables for CIFAR-100 (63.1 M MACs).
_base_ = [
    "_base_/datasets/cifar10.py",
    "_base_/models/sar_cifar.py",
    "_base_/schedules/sar_cifar_300e.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=20))
