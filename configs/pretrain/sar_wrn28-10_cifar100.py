# SAR-WRN-28-10 on CIFAR-100 (SAR, table IV): G2 s2 alpha2 beta1, t 0.5, 1.95 GMACs. The paper says
# neither s nor alpha; these give its MACs.
_base_ = [
    "_base_/datasets/cifar100.py",
    "_base_/models/sar_cifar.py",
    "_base_/schedules/sar_cifar_500e.py",
    "_base_/runtime.py",
]
model = dict(
    _base_.classifier,
    backbone=dict(depth=28, width=10),
    head=dict(num_classes=100, in_channels=640),
)
