# SAR-ResNet-32 on CIFAR-10, of twice a ResNet-32's width, with SAR-ResNet-20's recipe.
_base_ = "sar_resnet20_cifar10.py"
model = dict(backbone=dict(depth=32, width=2), head=dict(in_channels=128))
