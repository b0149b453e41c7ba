# BlockDrop on CIFAR-10 within minutes on one CPU core, third stage: both networks.
_base_ = ["_base_/recipes/blockdrop_cifar10-small.py", "_base_/schedules/policy_small.py"]
model = dict(stage="joint", gamma=1, alpha=0.8)
default_hooks = dict(checkpoint=dict(interval=100))
load_from = "work_dirs/blockdrop_resnet20_cifar10-small_2-curriculum/iter_150.pth"
