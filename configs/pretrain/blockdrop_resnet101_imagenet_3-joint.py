# BlockDrop on ImageNet, third stage: ResNet-101 and the policy network together.
_base_ = ["_base_/recipes/blockdrop_imagenet.py", "_base_/schedules/policy_epochs.py"]
model = dict(stage="joint", gamma=5, alpha=0.8)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
total_batch_size = 320
train_dataloader = dict(batch_size=total_batch_size)
train_cfg = dict(max_epochs=15)
load_from = "work_dirs/blockdrop_resnet101_imagenet_2-curriculum/epoch_45.pth"
