# CamVid's images without labels, at half size: the street scenes by day and those at dusk, as
# splits/ divides the sequences.
image_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResize", scale=(240, 180), ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(128, 176)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
# For the generator, which looks at a few pixels at a time: crops, at twice the size, in which it is
# used (generator_scale=2).
crop_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResize", scale=(480, 360), ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(96, 96)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
dusk_images = dict(
    type="BaseSegDataset",
    data_root="data/camvid",
    data_prefix=dict(img_path="img_dir"),
    ann_file="splits/target_dusk_train.txt",
    pipeline=image_pipeline,
)
dusk_crops = dict(dusk_images, pipeline=crop_pipeline)
day_crops = dict(dusk_crops, ann_file="splits/source_day_train.txt")
