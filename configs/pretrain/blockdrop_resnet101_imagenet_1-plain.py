# BlockDrop on ImageNet, first stage: torchvision's ResNet-101 gets a classifier of its own. Without
# init_cfg, and with the lr and the epochs of imagenet_200e.py, it trains from scratch.
_base_ = ["_base_/recipes/blockdrop_imagenet.py", "_base_/schedules/imagenet_200e.py"]
model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")),
    stage="plain",
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type="CosineAnnealingLR", begin=0, end=10, eta_min=0, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=10)
