# SAR-ResNet-50 (G 2, s 2, alpha 2, beta 1) with ImageNet's classifier.
model = dict(
    type="ImageClassifier",
    # torchvision's statistics, on 0..255; images come as BGR and go in as RGB.
    data_preprocessor=dict(
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type="SARResNet",
        depth=50,
        groups=2,
        base_scale=2,
        alpha=2,
        beta=1,
        target_rate=0.5,
        target_schedule="ramp",
        temperature=(1.0, 0.01),
        loss_weight=0.5,
        selector_margin=9,
        out_indices=(3,),
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=2048,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
)
val_evaluator = [dict(type="Accuracy", topk=(1, 5))]
test_evaluator = val_evaluator
