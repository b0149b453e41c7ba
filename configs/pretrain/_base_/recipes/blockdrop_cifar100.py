_base_ = ["../models/blockdrop_cifar.py", "../datasets/cifar100.py", "../runtime.py"]
model = dict(_base_.classifier)
