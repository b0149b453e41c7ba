# BlockDrop on CIFAR-100, second stage: the policy network, one block more after the other.
_base_ = ["_base_/recipes/blockdrop_cifar100.py", "_base_/schedules/policy_24k.py"]
# With 15 blocks and 24,000 iterations, a quarter of training is 16 epochs for each further block;
# in the paper it is one.
model = dict(stage="curriculum", gamma=5, alpha=0.8, curriculum_share=0.25)
train_dataloader = dict(batch_size=2048)
load_from = "work_dirs/blockdrop_resnet32_cifar100_1-plain/iter_64000.pth"
