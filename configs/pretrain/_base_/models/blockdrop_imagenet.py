# BlockDrop-ResNet-101 with ImageNet's classifier; the policy network halves the images.
model = dict(
    type="BlockDropClassifier",
    data_preprocessor=dict(
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(type="BlockDropResNet", depth=101, policy_size=None, out_indices=(3,)),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=1000, in_channels=2048, cal_acc=True),
)
val_evaluator = [dict(type="Accuracy", topk=(1, 5)), dict(type="BlockUsage")]
test_evaluator = val_evaluator
