# About a minute on two CPU cores: the demo detector's SAR-ResNet-18 learns to classify single
# digits, drawn like the demo dataset's but never from its validation samples. The detector then
# starts from it:
#   dynbackbones train configs/demo/pretrain_digits.py
#   dynbackbones train-net --config-file configs/demo/sar_retinanet_pretrained.yaml
_base_ = "../pretrain/_base_/runtime.py"
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.datasets.digit_tiles",
    ]
)
model = dict(
    type="ImageClassifier",
    # As the demo detector: BGR, and its statistics.
    data_preprocessor=dict(
        num_classes=10, mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], to_rgb=False
    ),
    # As MODEL.SAR of the demo detector.
    backbone=dict(
        type="SARResNet",
        depth=18,
        groups=2,
        base_scale=2,
        alpha=2,
        target_rate=0.5,
        selector_margin=2,
        out_indices=(3,),
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, in_channels=512, cal_acc=True),
)


def digits(split, count, **options):
    pipeline = [dict(type="PackInputs")]
    return dict(type="DigitTiles", split=split, count=count, pipeline=pipeline, **options)


train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="SeededSampler"),
    dataset=dict(type="SeededDataset", dataset=digits("train", 4800)),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=digits("val", 480, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    # Unfused, the step takes two fifths of the time with images this small.
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-2, fused=True),
    # As in the demo detector: so short a schedule would not leave activation rate 1 otherwise.
    paramwise_cfg=dict(custom_keys={"selectors": dict(lr_mult=10)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=700, eta_min=0, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=700, val_interval=350)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=350, save_best="accuracy/top1", rule="greater"),
)
