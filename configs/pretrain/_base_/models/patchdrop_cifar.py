# PatchDrop for CIFAR: 16 patches of 8 x 8 pixels, chosen by a look at 8 x 8 pixels in all.
model = dict(
    type="PatchDropClassifier",
    classifier=dict(name="patchdrop_cifar_resnet32", num_classes=10, grid=4, scale=4),
    data_preprocessor=dict(
        # CIFAR-10's, on 0..255, RGB; datasets give RGB already.
        num_classes=10,
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        to_rgb=False,
    ),
)
val_evaluator = [dict(type="Accuracy", topk=1), dict(type="PatchUsage")]
test_evaluator = val_evaluator
