# SAR-ResNet-50 on ImageNet, the paper's recipe: half of the regions refined, 2.40 GMACs.
_base_ = [
    "_base_/models/sar_imagenet.py",
    "_base_/datasets/imagenet.py",
    "_base_/schedules/imagenet_200e.py",
    "_base_/runtime_imagenet.py",
]
