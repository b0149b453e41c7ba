# SYNTHIA-RAND-CITYSCAPES, 16 classes: RGB/ and GT/LABELS/ of the download. 1280 x 760 pixels become
# 1024 x 608, of which a crop of 1024 x 512 is taken. Scored on 16 classes and, without wall, fence
# and pole, on 13.
_base_ = "cityscapes.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.subset_iou",
    ]
)
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
    dataset=dict(
        dataset=dict(
            type="SynthiaDataset",
            data_root=synthia_root,
            data_prefix=dict(img_path="RGB", seg_map_path="GT/LABELS"),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadSynthiaAnnotations"),
                dict(type="CheckLabels", num_classes=16),
                *_base_.source_crop,
            ],
        ),
    ),
)
# Of Cityscapes the same 16 classes; mmseg ignores the others.
cityscapes_labelled = dict(metainfo=metainfo)
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type="SubsetIoUMetric",
    subsets=dict(mIoU_16=metainfo["classes"], mIoU_13=classes_13),
)
test_evaluator = dict(val_evaluator)
dcan = dict(
    num_targets=2,
    generator=dict(weights="work_dirs/generator_vgg19_synthia-cityscapes/iter_20000.pth"),
)
