# CIFAR-100 as mmpretrain reads it; it downloads the files on first use, if the folder is there.
_base_ = "cifar10_loaders.py"
cifar100 = dict(type="CIFAR100", data_root="data/cifar100")
workers = dict(num_workers=2, persistent_workers=True)
train_dataloader = dict(workers, dataset=dict(dataset=dict(cifar100, split="train")))
val_dataloader = dict(workers, dataset=dict(cifar100, split="test"))
test_dataloader = val_dataloader
# For a classifier that CIFAR-10 has been given.
classifier = dict(
    data_preprocessor=dict(
        num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
    ),
    head=dict(num_classes=100),
)
del cifar100, workers
