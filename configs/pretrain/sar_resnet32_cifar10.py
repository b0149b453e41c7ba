# SAR-ResNet-32 on CIFAR-10, with SAR-ResNet-20's recipe.
_base_ = "sar_resnet20_cifar10.py"
model = dict(backbone=dict(depth=32))
