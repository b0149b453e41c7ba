# Glance and Focus with MobileNetV3, crops of 96, third stage: the rest, from the policy's crops.
_base_ = "_base_/recipes/glance_focus_imagenet.py"
model = dict(
    stage="fine_tune",
    classifier=dict(
        name="glance_focus_mobilenet_v3_large", patch=96, steps=3, train_glance=False
    ),
    auxiliary_weight=5,
)
optim_wrapper = dict(
    optimizer=dict(lr=0.01), paramwise_cfg=dict(custom_keys={"net.local": dict(lr_mult=0.5)})
)
train_cfg = dict(max_epochs=90)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=90, by_epoch=True)]
load_from = "work_dirs/glance_focus_mobilenet_v3_large-96_imagenet_2-policy/epoch_15.pth"
