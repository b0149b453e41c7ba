# SAR-ResNet-50 (G 2, s 2, alpha 2, beta 1) with ImageNet's classifier.
_base_ = "classifier_imagenet.py"
model = dict(
    type="ImageClassifier",
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
    ),
    head=dict(loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original")),
)
val_evaluator = [dict(type="Accuracy", topk=(1, 5))]
test_evaluator = val_evaluator
