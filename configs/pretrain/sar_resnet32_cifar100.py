# SAR-ResNet-32 on CIFAR-100: G2 s2 alpha2 beta1, t 0.5, with the paper's recipe of 300 epochs.
_base_ = [
    "_base_/datasets/cifar100.py",
    "_base_/models/sar_cifar.py",
    "_base_/schedules/sar_cifar_300e.py",
    "_base_/runtime.py",
]
model = dict(_base_.classifier, backbone=dict(depth=32))
