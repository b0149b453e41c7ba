# BlockDrop on CIFAR-100, third stage: ResNet-110 and the policy network together.
_base_ = "blockdrop_resnet32_cifar100_3-joint.py"
model = dict(backbone=dict(depth=110))
load_from = "work_dirs/blockdrop_resnet110_cifar100_2-curriculum/iter_24000.pth"
