# PatchDrop on CIFAR-10, fourth stage of five (Ft-1): the policy network and the classifier.
_base_ = ["_base_/recipes/patchdrop_cifar10.py", "_base_/schedules/policy_24k.py"]
# 1,680 epochs.
model = dict(stage="joint", sigma=5, alpha=0.8)
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_iters=328000)
load_from = "work_dirs/patchdrop_resnet32_cifar10_3-policy/iter_166000.pth"
