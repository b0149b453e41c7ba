# BlockDrop on CIFAR-10 within minutes on one CPU core, second stage: the policy network.
_base_ = ["_base_/recipes/blockdrop_cifar10-small.py", "_base_/schedules/policy_small.py"]
model = dict(stage="curriculum", gamma=0.25, alpha=0.8, curriculum_share=0.5)
train_cfg = dict(max_iters=150, val_interval=150)
default_hooks = dict(checkpoint=dict(interval=50))
load_from = "work_dirs/blockdrop_resnet20_cifar10-small_1-plain/iter_400.pth"
