# CIFAR-10 as mmpretrain reads it; it downloads the files on first use, if the folder is there.
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="SeededDataset",
        dataset=dict(
            type="CIFAR10", data_root="data/cifar10", split="train", pipeline=train_pipeline
        ),
    ),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CIFAR10",
        data_root="data/cifar10",
        split="test",
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
