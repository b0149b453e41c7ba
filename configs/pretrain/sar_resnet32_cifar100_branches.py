# SAR's table XI, channels and sizes of both branches, as in the paper: SAR-ResNet-32 on
# CIFAR-100; for dynbackbones compare.
_base_ = ["sar_resnet32_cifar100.py", "_base_/variants/sar_branches.py"]
