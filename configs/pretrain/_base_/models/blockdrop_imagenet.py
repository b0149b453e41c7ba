# BlockDrop-ResNet-101 with ImageNet's classifier; the policy network halves the images.
_base_ = "classifier_imagenet.py"
model = dict(
    type="BlockDropClassifier",
    backbone=dict(type="BlockDropResNet", depth=101, policy_size=None),
    head=dict(cal_acc=True),
)
val_evaluator = [dict(type="Accuracy", topk=(1, 5)), dict(type="BlockUsage")]
test_evaluator = val_evaluator
