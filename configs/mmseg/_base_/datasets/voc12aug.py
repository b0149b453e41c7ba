# Pascal VOC 2012 with the annotations of Hariharan et al. (SBD): 1,464 + 9,118 training images.
# SegmentationClassAug and aug.txt come from mmseg's tools/dataset_converters/voc_aug.py.
_base_ = "segmentation.py"
data_root = "data/VOCdevkit/VOC2012"
crop_size = (513, 513)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=21),
    dict(type="RandomResize", scale=(2052, 513), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2052, 513), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=21),
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale_factor=r, keep_ratio=True) for r in (0.75, 1.0, 1.25)],
            *_base_.flips,
        ],
    ),
]


def dataset(split, pipeline, labels="SegmentationClass"):
    return dict(
        type="PascalVOCDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path=labels),
        ann_file=f"ImageSets/Segmentation/{split}.txt",
        pipeline=pipeline,
    )


dataset_train = dataset("train", train_pipeline)
dataset_aug = dataset("aug", train_pipeline, "SegmentationClassAug")
train_dataloader = dict(
    dataset=dict(dataset=dict(type="ConcatDataset", datasets=[dataset_train, dataset_aug]))
)
val_dataloader = dict(num_workers=4, persistent_workers=True, dataset=dataset("val", test_pipeline))
test_dataloader = val_dataloader
