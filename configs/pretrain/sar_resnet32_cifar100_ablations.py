# SAR's ablations (table I) as in the paper: SAR-ResNet-32 on CIFAR-100; for dynbackbones compare.
_base_ = ["sar_resnet32_cifar100.py", "_base_/variants/sar_ablations.py"]
