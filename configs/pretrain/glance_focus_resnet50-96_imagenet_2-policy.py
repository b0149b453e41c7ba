# Glance and Focus with ResNet-50, crops of 96, second stage: where to look.
_base_ = "_base_/recipes/glance_focus_imagenet_policy.py"
model = dict(
    stage="policy",
    classifier=dict(patch=96, steps=5),
)
load_from = "work_dirs/glance_focus_resnet50-96_imagenet_1-warm_up/epoch_60.pth"
