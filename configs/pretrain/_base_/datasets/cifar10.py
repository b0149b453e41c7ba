# CIFAR-10 as mmpretrain reads it; it downloads the files on first use, if the folder is there.
_base_ = "cifar10_loaders.py"
workers = dict(num_workers=2, persistent_workers=True)
train_dataloader = dict(workers, dataset=dict(dataset=dict(type="CIFAR10", split="train")))
val_dataloader = dict(workers, dataset=dict(type="CIFAR10", split="test"))
test_dataloader = val_dataloader
del workers
