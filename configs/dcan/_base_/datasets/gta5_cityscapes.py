# GTA5, 19 classes: images/ and labels/ with all ten parts of the download. 1914 x 1052 pixels
# become 1024 x 563, of which a crop of 1024 x 512 is taken.
_base_ = "cityscapes.py"
gta5_root = "data/gta5"
train_dataloader = dict(
    batch_size=3,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="SeededDataset",
        dataset=dict(
            type="GTA5Dataset",
            data_root=gta5_root,
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations"),
                dict(type="CheckLabels", num_classes=19),
                dict(type="Resize", scale=(1024, 1024), keep_ratio=True),
                dict(type="RandomCrop", crop_size=(512, 1024), cat_max_ratio=0.75),
                dict(type="RandomFlip", prob=0.5),
                dict(type="PackSegInputs"),
            ],
        ),
    ),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
