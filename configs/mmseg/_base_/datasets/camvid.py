# CamVid with SegNet's 11 classes, 480 x 360 pixels, in mmseg's layout: img_dir/{train,val}/*.jpg,
# ann_dir/{train,val}/*.png with classes 0 to 10 and 255.
_base_ = "segmentation.py"
data_root = "data/camvid"
metainfo = dict(
    classes=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
        "pedestrian", "bicyclist",
    ),
    palette=[
        [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
        [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
    ],
)  # fmt: skip
crop_size = (240, 320)

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=11),
    dict(type="PackSegInputs"),
]
train_pipeline = [
    *test_pipeline[:-1],
    dict(type="RandomResize", scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="TestTimeAug", transforms=_base_.flips),
]


def dataset(split, **options):
    return dict(
        type="BaseSegDataset",
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path=f"img_dir/{split}", seg_map_path=f"ann_dir/{split}"),
        **options,
    )


train_dataloader = dict(
    num_workers=1, dataset=dict(dataset=dataset("train", pipeline=train_pipeline))
)
val_dataloader = dict(num_workers=0, dataset=dataset("val", test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
