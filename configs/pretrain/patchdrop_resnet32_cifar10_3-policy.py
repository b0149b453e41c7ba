# PatchDrop on CIFAR-10, third stage of five (Pt): the policy network.
_base_ = ["_base_/recipes/patchdrop_cifar10.py", "_base_/schedules/policy_24k.py"]
# 3,400 epochs.
model = dict(stage="policy", sigma=0.5, alpha=0.8)
train_dataloader = dict(batch_size=1024)
train_cfg = dict(max_iters=166000)
load_from = "work_dirs/patchdrop_resnet32_cifar10_2-low/iter_117200.pth"
