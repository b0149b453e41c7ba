# Fine-tunes a trained SAR-ResNet-50 on class folders of your own. Its selectors are trained: the
# target rate is constant and the temperature low, or the ramp would drag the rate back to 1.
#   dynbackbones train configs/pretrain/sar_resnet50_finetune.py --cfg-options \
#       model.head.num_classes=37 model.backbone.init_cfg.checkpoint=work_dirs/.../best_....pth
_base_ = "sar_resnet50_imagenet.py"
model = dict(
    backbone=dict(
        target_schedule="constant",
        temperature=(0.1, 0.01),
        loss_weight=1.0,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="work_dirs/sar_resnet50_imagenet/epoch_200.pth",
            prefix="backbone.",
        ),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=30, eta_min=0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)
# There may be fewer than five classes.
val_evaluator = [dict(type="Accuracy", topk=1)]
test_evaluator = val_evaluator
