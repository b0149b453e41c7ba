# BlockDrop on CIFAR-10, third stage: the ResNet and the policy network together.
_base_ = [
    "_base_/models/blockdrop_cifar.py",
    "_base_/datasets/cifar10.py",
    "_base_/schedules/policy_24k.py",
    "_base_/runtime.py",
]
model = dict(backbone=dict(depth=32), stage="joint", gamma=5, alpha=0.8)
train_dataloader = dict(batch_size=256)
load_from = "work_dirs/blockdrop_resnet32_cifar10_2-curriculum/iter_24000.pth"
