# CamVid's two times of day, by sequences, at half size: labelled street scenes by day, and dusk
# without labels. splits/ has source_day_train.txt, target_dusk_train.txt and target_dusk_val.txt,
# with names as img_dir/ and ann_dir/ have them, without suffix. Scored at dusk.
_base_ = ["../../../mmseg/_base_/datasets/camvid.py", "camvid_images.py"]
scale = (240, 180)
labelled_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=11),
    dict(type="RandomResize", scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(128, 176), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
# Labels stay in the images' own size, in which predictions are scored.
half_size_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=11),
    dict(type="PackSegInputs"),
]
folders = dict(img_path="img_dir", seg_map_path="ann_dir")
day = dict(
    type="BaseSegDataset",
    data_root=_base_.data_root,
    metainfo=_base_.metainfo,
    data_prefix=folders,
    ann_file="splits/source_day_train.txt",
    pipeline=labelled_pipeline,
)
dusk_labelled = dict(day, ann_file="splits/target_dusk_train.txt")
train_dataloader = dict(dataset=dict(dataset=day))
val_dataloader = dict(
    dataset=dict(
        data_prefix=folders,
        ann_file="splits/target_dusk_val.txt",
        pipeline=half_size_pipeline,
    )
)
test_dataloader = val_dataloader
