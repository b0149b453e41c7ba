# ResNet-32 of twice the width on CIFAR-100, the baseline of sar_resnet32_cifar100.py.
_base_ = "sar_resnet32_cifar100.py"
model = dict(
    backbone=dict(_delete_=True, type="CifarResNet", depth=32, width=2, out_indices=(2,)),
)
