# BlockDrop on CIFAR-10 within minutes on one CPU core, first stage: the plain ResNet-20.
_base_ = ["_base_/recipes/blockdrop_cifar10-small.py", "_base_/schedules/plain_small.py"]
model = dict(stage="plain")
default_hooks = dict(checkpoint=dict(interval=100))
