# SAR-ResNet-50 on ImageNet with one group and rate 0.3, as in SAR's figures 5 and 6: 2.48 GMACs.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(groups=1, target_rate=0.3))
