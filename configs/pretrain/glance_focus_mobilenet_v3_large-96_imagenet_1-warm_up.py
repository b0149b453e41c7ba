# Glance and Focus with MobileNetV3, crops of 96, first stage: encoders and head, crops anywhere.
_base_ = "_base_/recipes/glance_focus_imagenet.py"
# The encoders start from torchvision's weights: load them into net.glance.model and
# net.local.model, and name a file of the whole classifier by load_from.
model = dict(
    stage="warm_up",
    classifier=dict(
        name="glance_focus_mobilenet_v3_large", patch=96, steps=3, train_glance=False
    ),
    auxiliary_weight=5,
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"net.local": dict(lr_mult=0.05)}),
)
train_cfg = dict(max_epochs=90)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=90, by_epoch=True)]
