# BlockDrop on CIFAR-100, first stage: the plain ResNet-110.
_base_ = "blockdrop_resnet32_cifar100_1-plain.py"
model = dict(backbone=dict(depth=110))
# He et al. start at a tenth of the learning rate: at this depth 0.1 is too much for the beginning.
param_scheduler = [
    dict(type="ConstantLR", factor=0.1, begin=0, end=400, by_epoch=False),
    dict(type="MultiStepLR", milestones=[32000, 48000], gamma=0.1, by_epoch=False),
]
