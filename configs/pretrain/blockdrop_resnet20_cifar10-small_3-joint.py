# BlockDrop on CIFAR-10 within minutes on one CPU core, third stage: both networks.
_base_ = [
    "_base_/models/blockdrop_cifar.py",
    "_base_/datasets/cifar10_packed.py",
    "_base_/schedules/policy_small.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=20), stage="joint", gamma=1, alpha=0.8, channels_last=True)
default_hooks = dict(checkpoint=dict(interval=100))
load_from = "work_dirs/blockdrop_resnet20_cifar10-small_2-curriculum/iter_150.pth"
