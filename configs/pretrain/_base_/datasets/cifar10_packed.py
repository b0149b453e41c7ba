# CIFAR-10 in two files, train.npz and val.npz; see PackedImages. The last 1,000 training images are
# kept out of training: a fixed policy is searched on them.
data_root = "data/cifar10"
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="SeededDataset",
        dataset=dict(
            type="PackedImages",
            data_root=data_root,
            ann_file="train.npz",
            indices=49000,
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PackedImages",
        data_root=data_root,
        ann_file="val.npz",
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
calibration_dataset = dict(
    type="PackedImages",
    data_root=data_root,
    ann_file="train.npz",
    indices=-1000,
    pipeline=test_pipeline,
    test_mode=True,
)
test_dataloader = val_dataloader
