# ResNet-20 on CIFAR-10, the baseline of sar_resnet20_cifar10.py.
_base_ = "sar_resnet20_cifar10.py"
model = dict(
    backbone=dict(_delete_=True, type="CifarResNet", depth=20, out_indices=(2,)),
    head=dict(in_channels=64),
)
