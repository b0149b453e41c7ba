# Minutes on two CPU cores: a SAR-ResNet-18 with semantic FPN (Kirillov et al., Panoptic Feature
# Pyramid Networks) on the masks of the demo dataset, which is written on first use. Strokes of a
# few pixels ask for the FPN's stride of 4.
_base_ = [
    "../mmseg/_base_/models/segmentor.py",
    "../mmseg/_base_/datasets/segmentation.py",
    "../mmseg/_base_/runtime.py",
]
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.digits",
    ]
)
norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    backbone=dict(
        type="SARResNet",
        depth=18,
        groups=2,
        base_scale=2,
        alpha=2,
        target_rate=0.5,
        selector_margin=2,
        norm_cfg=norm_cfg,
    ),
    neck=dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    decode_head=dict(
        type="FPNHead",
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
        dropout_ratio=0.0,
        num_classes=6,
        norm_cfg=norm_cfg,
        # Nineteen pixels of twenty are background.
        loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1, 1, 1, 1, 1, 1]),
    ),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    num_workers=1,
    dataset=dict(dataset=dict(type="DigitsDataset", split="train", pipeline=train_pipeline)),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(type="DigitsDataset", split="val", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=5),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=50, end=1000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=20))
