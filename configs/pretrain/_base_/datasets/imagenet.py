# ImageNet as class folders, data/imagenet/train/CLASS/*.JPEG and data/imagenet/val/CLASS/*.JPEG.
# Other class folders do too; model.head.num_classes is their number.
data_root = "data/imagenet"
train_pipeline = [
    dict(type="LoadWholeImage"),
    dict(type="RandomResizedCrop", scale=224),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadWholeImage"),
    dict(type="ResizeEdge", scale=256, edge="short"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]
# Of all processes and accumulated steps together; dynbackbones train divides it among them.
total_batch_size = 256
train_dataloader = dict(
    batch_size=total_batch_size,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="SeededEpochSampler", shuffle=True),
    dataset=dict(
        type="SeededDataset",
        dataset=dict(
            type="ImageFolders",
            data_root=data_root,
            split="train",
            on_corrupt="skip",
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ImageFolders",
        data_root=data_root,
        split="val",
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
