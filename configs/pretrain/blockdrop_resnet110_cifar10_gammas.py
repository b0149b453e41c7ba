# BlockDrop's table 2.3 as in the paper: joint training of ResNet-110 with three gammas, all from
# one curriculum; for dynbackbones compare.
_base_ = ["blockdrop_resnet110_cifar10_3-joint.py", "_base_/variants/blockdrop_gammas.py"]
