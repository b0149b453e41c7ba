# SAR-ResNet-50 on ImageNet with eight groups: 1.99 GMACs.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(groups=8))
