# r50_pspnet.py with a ResNeXt-50 (32x4d).
_base_ = "r50_pspnet.py"
model = dict(
    backbone=dict(
        cardinality=32,
        width_per_group=4,
        init_cfg=dict(checkpoint="torchvision://resnext50_32x4d"),
    )
)
