# BlockDrop-ResNet for CIFAR; the depth is the config's to say.
_base_ = "classifier_cifar.py"
model = dict(
    type="BlockDropClassifier",
    backbone=dict(type="BlockDropCifarResNet", depth=32, out_indices=(2,)),
    head=dict(in_channels=64),
)
val_evaluator = [dict(type="Accuracy", topk=1), dict(type="BlockUsage")]
test_evaluator = val_evaluator
