# SAR-ResNet-20 on CIFAR-10 as in SAR's figure 4: G2 s2 alpha2 beta1, t 0.5, of 1.5 times a
# ResNet-20's width (36.3 M MACs), 500 epochs.
_base_ = [
    "_base_/datasets/cifar10.py",
    "_base_/models/sar_cifar.py",
    "_base_/schedules/sar_cifar_500e.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=20, width=1.5), head=dict(in_channels=96))
