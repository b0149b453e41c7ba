# BlockDrop on CIFAR-100, second stage: the policy network of ResNet-110 (54 blocks).
_base_ = "blockdrop_resnet32_cifar100_2-curriculum.py"
model = dict(backbone=dict(depth=110), curriculum_share=0.5)
load_from = "work_dirs/blockdrop_resnet110_cifar100_1-plain/iter_64000.pth"
