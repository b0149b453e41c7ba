# SAR-ResNet-50 on ImageNet with four groups: 2.12 GMACs; with target_rate=0.7 2.22.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(groups=4))
