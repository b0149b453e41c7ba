# ResNet-32 on CIFAR-10, the baseline of sar_resnet32_cifar10.py.
_base_ = "resnet20_cifar10.py"
model = dict(backbone=dict(depth=32))
