# SAR's table XII, schedules of the target rate, as in the paper: SAR-ResNet-32 on
# CIFAR-100; for dynbackbones compare.
_base_ = ["sar_resnet32_cifar100.py", "_base_/variants/sar_schedules.py"]
