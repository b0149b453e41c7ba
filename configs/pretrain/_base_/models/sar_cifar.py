# SAR-ResNet for CIFAR; the depth is the config's to say.
model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(
        # CIFAR-10's, on 0..255, RGB; datasets give RGB already.
        num_classes=10,
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        to_rgb=False,
    ),
    backbone=dict(
        type="SARCifarResNet",
        depth=32,
        groups=2,
        base_scale=2,
        alpha=2,
        beta=1,
        target_rate=0.5,
        loss_weight=1.0,
        selector_margin=9,
        out_indices=(2,),
    ),
    neck=dict(type="GlobalAveragePooling"),
    # 64 channels times the backbone's width of 2.
    head=dict(type="LinearClsHead", num_classes=10, in_channels=128, cal_acc=True),
)
val_evaluator = [dict(type="Accuracy", topk=1)]
test_evaluator = val_evaluator
