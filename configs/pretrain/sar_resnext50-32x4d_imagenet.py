# SAR-ResNeXt-50 (32x4d) on ImageNet, with SAR-ResNet-50's recipe: 3.21 GMACs. The paper's row has
# the deep stem (its text does not say so); that of the plain network beside it has not.
_base_ = "sar_resnet50_imagenet.py"
model = dict(backbone=dict(cardinality=32, width_per_group=4, alpha=1, deep_stem=True))
