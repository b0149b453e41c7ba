# PatchDrop on CIFAR-10, first stage of five: the ResNet-32 that sees whole images.
_base_ = ["_base_/recipes/patchdrop_cifar10.py", "_base_/schedules/plain_64k.py"]
# 300 epochs, as the authors' code.
model = dict(stage="high")
optim_wrapper = dict(optimizer=dict(weight_decay=0))
param_scheduler = [dict(type="MultiStepLR", milestones=[58600, 97700], gamma=0.1, by_epoch=False)]
train_cfg = dict(max_iters=117200)
