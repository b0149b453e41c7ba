# PatchDrop on CIFAR-10 in minutes, first stage: the ResNet-8 that sees whole images.
_base_ = ["_base_/recipes/patchdrop_cifar10-small.py", "_base_/schedules/plain_small.py"]
model = dict(stage="high")
default_hooks = dict(checkpoint=dict(interval=100))
