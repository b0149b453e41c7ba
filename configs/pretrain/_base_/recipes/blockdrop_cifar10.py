_base_ = ["../models/blockdrop_cifar.py", "../datasets/cifar10.py", "../runtime.py"]
