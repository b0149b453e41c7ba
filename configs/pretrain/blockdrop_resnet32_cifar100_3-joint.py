# BlockDrop on CIFAR-100, third stage: the ResNet and the policy network together.
_base_ = ["_base_/recipes/blockdrop_cifar100.py", "_base_/schedules/policy_24k.py"]
model = dict(stage="joint", gamma=5, alpha=0.8)
train_dataloader = dict(batch_size=256)
load_from = "work_dirs/blockdrop_resnet32_cifar100_2-curriculum/iter_24000.pth"
