# PatchDrop on CIFAR-10, second stage of five: the ResNet-32 that sees reduced images.
_base_ = ["_base_/recipes/patchdrop_cifar10.py", "_base_/schedules/plain_64k.py"]
model = dict(stage="low")
optim_wrapper = dict(optimizer=dict(weight_decay=0))
param_scheduler = [dict(type="MultiStepLR", milestones=[58600, 97700], gamma=0.1, by_epoch=False)]
train_cfg = dict(max_iters=117200)
load_from = "work_dirs/patchdrop_resnet32_cifar10_1-high/iter_117200.pth"
