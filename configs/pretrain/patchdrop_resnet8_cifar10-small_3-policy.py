# PatchDrop on CIFAR-10 in minutes, third stage: the policy.
_base_ = ["_base_/recipes/patchdrop_cifar10-small.py", "_base_/schedules/policy_small.py"]
model = dict(stage="policy", sigma=0.25, alpha=0.8)
load_from = "work_dirs/patchdrop_resnet8_cifar10-small_2-low/iter_400.pth"
default_hooks = dict(checkpoint=dict(interval=100))
