# SAR-ResNet-50 on ImageNet with a smaller, wider base branch, G2 s4 alpha1: 2.55 GMACs.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(base_scale=4, alpha=1))
