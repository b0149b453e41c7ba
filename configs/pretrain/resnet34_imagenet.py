# The plain ResNet-34 with SAR-ResNet-34's recipe, to compare with.
_base_ = "sar_resnet34_imagenet.py"
model = dict(backbone=dict(_delete_=True, type="StaticResNet", depth=34, out_indices=(3,)))
