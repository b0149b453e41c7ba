# PatchDrop on CIFAR-10 in minutes, fifth stage: both classifiers.
_base_ = ["_base_/recipes/patchdrop_cifar10-small.py", "_base_/schedules/policy_small.py"]
model = dict(stage="two_stream", sigma=1, alpha=0.8)
load_from = "work_dirs/patchdrop_resnet8_cifar10-small_4-joint/iter_300.pth"
default_hooks = dict(checkpoint=dict(interval=100))
