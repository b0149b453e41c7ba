# How CIFAR-10 is loaded, whatever reads it.
train_pipeline = [
    dict(type="RandomCrop", crop_size=32, padding=4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=128,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="SeededDataset", dataset=dict(data_root="data/cifar10", pipeline=train_pipeline)
    ),
)
val_dataloader = dict(
    batch_size=250,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(data_root="data/cifar10", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
