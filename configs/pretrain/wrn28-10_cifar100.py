# WRN-28-10 on CIFAR-100, the baseline of sar_wrn28-10_cifar100.py: 5.24 GMACs.
_base_ = "sar_wrn28-10_cifar100.py"
model = dict(
    backbone=dict(_delete_=True, type="CifarResNet", depth=28, width=10, out_indices=(2,)),
)
