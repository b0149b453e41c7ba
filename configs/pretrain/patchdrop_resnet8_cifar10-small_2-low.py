# PatchDrop on CIFAR-10 in minutes, second stage: the one that sees reduced images.
_base_ = ["_base_/recipes/patchdrop_cifar10-small.py", "_base_/schedules/plain_small.py"]
model = dict(stage="low")
load_from = "work_dirs/patchdrop_resnet8_cifar10-small_1-high/iter_400.pth"
default_hooks = dict(checkpoint=dict(interval=100))
