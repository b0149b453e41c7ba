# Glance and Focus on ImageNet: ResNet-50 sees the image at 96 x 96 pixels, then crops of that size.
model = dict(
    type="GlanceFocusClassifier",
    classifier=dict(name="glance_focus_resnet50", num_classes=1000, patch=96, steps=5),
    data_preprocessor=dict(
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,
    ),
)
val_evaluator = [dict(type="Accuracy", topk=(1, 5)), dict(type="FocusUsage")]
test_evaluator = val_evaluator
