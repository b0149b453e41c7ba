# BlockDrop on CIFAR-100, first stage of three: the plain ResNet-32.
_base_ = ["_base_/recipes/blockdrop_cifar100.py", "_base_/schedules/plain_64k.py"]
model = dict(stage="plain")
