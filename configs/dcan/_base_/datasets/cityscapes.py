# Cityscapes in mmseg's layout, with leftImg8bit/ and gtFine/ and the label maps that mmseg's
# tools/dataset_converters/cityscapes.py writes (*_gtFine_labelTrainIds.png), as a target: images
# of the training set without labels, scored on the validation set. Images are halved to 1024 x 512
# and predictions, as mmseg does, enlarged to the size of the label maps.
cityscapes_root = "data/cityscapes"
cityscapes_images = dict(
    type="CityscapesDataset",
    data_root=cityscapes_root,
    data_prefix=dict(img_path="leftImg8bit/train"),
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(1024, 512), keep_ratio=True),
        dict(type="RandomCrop", crop_size=(512, 1024)),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackSegInputs"),
    ],
)
cityscapes_labelled = dict(
    # In place of the source's dataset, in configs of oracles.
    _delete_=True,
    type="CityscapesDataset",
    data_root=cityscapes_root,
    data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="Resize", scale=(1024, 512), keep_ratio=True),
        dict(type="RandomCrop", crop_size=(512, 1024)),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackSegInputs"),
    ],
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CityscapesDataset",
        data_root=cityscapes_root,
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(1024, 512), keep_ratio=True),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
