# BlockDrop on CIFAR-10, first stage of three: the plain ResNet-32.
_base_ = ["_base_/recipes/blockdrop_cifar10.py", "_base_/schedules/plain_64k.py"]
model = dict(stage="plain")
