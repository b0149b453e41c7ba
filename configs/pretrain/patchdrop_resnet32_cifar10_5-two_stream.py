# PatchDrop on CIFAR-10, fifth stage (Ft-2): beside the classifier of reduced images.
_base_ = ["_base_/recipes/patchdrop_cifar10.py", "_base_/schedules/policy_24k.py"]
# 990 epochs.
model = dict(stage="two_stream", sigma=5, alpha=0.8)
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_iters=193000)
load_from = "work_dirs/patchdrop_resnet32_cifar10_4-joint/iter_328000.pth"
