_base_ = ["../models/blockdrop_cifar.py", "../datasets/cifar10_packed.py", "../runtime.py"]
model = dict(backbone=dict(depth=20), channels_last=True)
