# BlockDrop on ImageNet, second stage: the policy network, one block more with each epoch.
_base_ = ["_base_/recipes/blockdrop_imagenet.py", "_base_/schedules/policy_epochs.py"]
# 33 blocks: 33 of 45 epochs.
model = dict(stage="curriculum", gamma=5, alpha=0.8, curriculum_share=33 / 45)
total_batch_size = 2048
train_dataloader = dict(batch_size=total_batch_size)
load_from = "work_dirs/blockdrop_resnet101_imagenet_1-plain/epoch_10.pth"
