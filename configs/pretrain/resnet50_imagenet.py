# The plain ResNet-50 with SAR-ResNet-50's recipe, to compare with.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(_delete_=True, type="StaticResNet", depth=50, out_indices=(3,)))
