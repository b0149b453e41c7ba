# SAR-ResNeXt-29 (8x32d) on CIFAR-100 (SAR, table IV): G2 s2 alpha1 beta1, t 0.5, 1.28 GMACs.
_base_ = "sar_wrn28-10_cifar100.py"
model = dict(
    backbone=dict(depth=29, width=1, cardinality=8, width_per_group=32, alpha=1),
    head=dict(in_channels=1024),
)
