# Minutes on two CPU cores: a SAR-ResNet-18 PSPNet on the masks of the demo dataset, which is
# written on first use.
_base_ = [
    "../mmseg/_base_/models/pspnet_sar-r18.py",
    "../mmseg/_base_/schedules/3k_small.py",
    "../mmseg/_base_/runtime.py",
]
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.digits",
    ]
)
model = dict(
    data_preprocessor=dict(size=(192, 256)),
    decode_head=dict(num_classes=6),
    auxiliary_head=dict(num_classes=6),
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
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="SeededDataset",
        dataset=dict(type="DigitsDataset", split="train", pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="DigitsDataset", split="val", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=50, end=700, by_epoch=False),
]
train_cfg = dict(max_iters=700, val_interval=350)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=20))
