# SAR's table XIII, whose rate meets the target, on CIFAR-10 within minutes of a CPU core
# each; for dynbackbones compare.
_base_ = ["_base_/recipes/sar_resnet20_cifar10-small.py", "_base_/variants/sar_targets.py"]
