# SAR-ResNet for CIFAR; the depth is the config's to say.
_base_ = "classifier_cifar.py"
model = dict(
    type="ImageClassifier",
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
    # 64 channels times the backbone's width of 2.
    head=dict(in_channels=128),
)
val_evaluator = [dict(type="Accuracy", topk=1)]
test_evaluator = val_evaluator
