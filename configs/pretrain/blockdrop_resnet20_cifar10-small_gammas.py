# BlockDrop's trade-off (table 2.3) on CIFAR-10 within minutes of a CPU core each: three gammas, all
# from one curriculum; for dynbackbones compare.
_base_ = ["blockdrop_resnet20_cifar10-small_3-joint.py", "_base_/variants/blockdrop_gammas.py"]
