# The plain ResNet-101 with SAR-ResNet-101's recipe, to compare with.
_base_ = "sar_resnet101_imagenet.py"
model = dict(backbone=dict(_delete_=True, type="StaticResNet", depth=101, out_indices=(3,)))
