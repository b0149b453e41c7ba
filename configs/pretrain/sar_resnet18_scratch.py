# SAR-ResNet-18 from scratch on class folders of your own, where there are a few thousand images and
# no weights to start from: data/folders/train/CLASS/* and data/folders/val/CLASS/*.
#   dynbackbones train configs/pretrain/sar_resnet18_scratch.py \
#       --cfg-options model.head.num_classes=37
# So short a training would leave the activation rate at 1 with ImageNet's margin of 9 and learning
# rate of the selectors. The ramp then brings it to the target rate by half of the epochs.
_base_ = "sar_resnet50_imagenet.py"
data_root = "data/folders"
model = dict(
    backbone=dict(depth=18, selector_margin=2, target_schedule="ramp", loss_weight=1.0),
    head=dict(in_channels=512),
)
total_batch_size = 64
train_dataloader = dict(
    batch_size=total_batch_size,
    num_workers=4,
    dataset=dict(dataset=dict(data_root=data_root)),
)
val_dataloader = dict(num_workers=4, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(selectors=dict(lr_mult=10))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=5, end=100, eta_min=0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
# There may be fewer than five classes.
val_evaluator = [dict(type="Accuracy", topk=1)]
test_evaluator = val_evaluator
