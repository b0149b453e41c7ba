# BlockDrop-ResNet for CIFAR; the depth is the config's to say.
model = dict(
    type="BlockDropClassifier",
    data_preprocessor=dict(
        # CIFAR-10's, on 0..255, RGB; datasets give RGB already.
        num_classes=10,
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        to_rgb=False,
    ),
    backbone=dict(type="BlockDropCifarResNet", depth=32, out_indices=(2,)),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, in_channels=64, cal_acc=True),
)
val_evaluator = [dict(type="Accuracy", topk=1), dict(type="BlockUsage")]
test_evaluator = val_evaluator
