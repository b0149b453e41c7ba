# CIFAR-10 in two files, train.npz and val.npz; see PackedImages. The last 1,000 training images are
# kept out of training: a fixed policy is searched on them.
_base_ = "cifar10_loaders.py"
data_root = "data/cifar10"
train_dataloader = dict(
    num_workers=0,
    dataset=dict(dataset=dict(type="PackedImages", ann_file="train.npz", indices=49000)),
)
val_dataloader = dict(num_workers=0, dataset=dict(type="PackedImages", ann_file="val.npz"))
test_dataloader = val_dataloader
calibration_dataset = dict(
    type="PackedImages",
    data_root=data_root,
    ann_file="train.npz",
    indices=-1000,
    pipeline=_base_.test_pipeline,
    test_mode=True,
)
