# Glance and Focus with MobileNetV3, crops of 96, second stage: where to look.
_base_ = "_base_/recipes/glance_focus_imagenet_policy.py"
model = dict(
    stage="policy",
    classifier=dict(
        name="glance_focus_mobilenet_v3_large", patch=96, steps=3, train_glance=False
    ),
    auxiliary_weight=5,
)
load_from = "work_dirs/glance_focus_mobilenet_v3_large-96_imagenet_1-warm_up/epoch_90.pth"
