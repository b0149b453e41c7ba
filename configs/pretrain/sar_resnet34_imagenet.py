# SAR-ResNet-34 on ImageNet, with SAR-ResNet-50's recipe.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(depth=34), head=dict(in_channels=512))
