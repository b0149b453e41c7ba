# What CIFAR-10's classifiers share.
model = dict(
    data_preprocessor=dict(
        # CIFAR-10's, on 0..255, RGB; datasets give RGB already.
        num_classes=10,
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        to_rgb=False,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, cal_acc=True),
)
