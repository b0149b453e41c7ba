# SAR-ResNet-101 on ImageNet, with SAR-ResNet-50's recipe.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(depth=101))
