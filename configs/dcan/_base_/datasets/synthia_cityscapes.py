# SYNTHIA-RAND-CITYSCAPES, 16 classes: RGB/ and GT/LABELS/ of the download. 1280 x 760 pixels become
# 1024 x 608, of which a crop of 1024 x 512 is taken. Scored on 16 classes and, without wall, fence
# and pole, on 13.
_base_ = "cityscapes.py"
synthia_root = "data/synthia/RAND_CITYSCAPES"
classes_13 = (
    "road", "sidewalk", "building", "traffic light", "traffic sign", "vegetation", "sky", "person",
    "rider", "car", "bus", "motorcycle", "bicycle",
)  # fmt: skip
metainfo = dict(
    classes=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "sky", "person", "rider", "car", "bus", "motorcycle", "bicycle",
    ),
)  # fmt: skip
train_dataloader = dict(
    batch_size=3,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="SeededSampler"),
    dataset=dict(
        type="SeededDataset",
        dataset=dict(
            type="SynthiaDataset",
            data_root=synthia_root,
            data_prefix=dict(img_path="RGB", seg_map_path="GT/LABELS"),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadSynthiaAnnotations"),
                dict(type="CheckLabels", num_classes=16),
                dict(type="Resize", scale=(1024, 1024), keep_ratio=True),
                dict(type="RandomCrop", crop_size=(512, 1024), cat_max_ratio=0.75),
                dict(type="RandomFlip", prob=0.5),
                dict(type="PackSegInputs"),
            ],
        ),
    ),
)
# Of Cityscapes the same 16 classes; mmseg ignores the others.
cityscapes_labelled = dict(metainfo=metainfo)
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(
    type="SubsetIoUMetric", subsets=dict(mIoU_16=metainfo["classes"], mIoU_13=classes_13)
)
test_evaluator = val_evaluator
