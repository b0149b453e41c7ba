# Glance and Focus with ResNet-50, crops of 128, third stage: the rest, from the policy's crops.
_base_ = "_base_/recipes/glance_focus_imagenet.py"
model = dict(
    stage="fine_tune",
    classifier=dict(patch=128, steps=5),
)
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(
        custom_keys={"net.glance": dict(lr_mult=1.0), "net.local": dict(lr_mult=1.0)}
    ),
)
load_from = "work_dirs/glance_focus_resnet50-128_imagenet_2-policy/epoch_15.pth"
