# Cityscapes in mmseg's layout, with leftImg8bit/ and gtFine/ and the label maps that mmseg's
# tools/dataset_converters/cityscapes.py writes (*_gtFine_labelTrainIds.png), as a target: images
# of the training set without labels, scored on the validation set. Images are halved to 1024 x 512
# and predictions, as mmseg does, enlarged to the size of the label maps.
_base_ = ["../../../mmseg/_base_/datasets/segmentation.py", "../../../mmseg/_base_/runtime.py"]
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.driving",
    ]
)
cityscapes_root = "data/cityscapes"
halved = dict(type="Resize", scale=(1024, 512), keep_ratio=True)
crop = [
    dict(type="RandomCrop", crop_size=(512, 1024)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
cityscapes_images = dict(
    type="CityscapesDataset",
    data_root=cityscapes_root,
    data_prefix=dict(img_path="leftImg8bit/train"),
    pipeline=[dict(type="LoadImageFromFile"), halved, *crop],
)
cityscapes_labelled = dict(
    cityscapes_images,
    # In place of the source's dataset, in configs of oracles.
    _delete_=True,
    data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
    pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), halved, *crop],
)
train_dataloader = dict(batch_size=3)
val_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type="CityscapesDataset",
        data_root=cityscapes_root,
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            halved,
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
# What source datasets do with their labelled images.
source_crop = [
    dict(type="Resize", scale=(1024, 1024), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 1024), cat_max_ratio=0.75),
    *crop[1:],
]
del halved, crop

# The paper's: SGD with momentum 0.99, a constant learning rate, 100,000 batches of three.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1e-3, momentum=0.99, weight_decay=0.0005),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=100000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# For the configs that adapt; num_targets and the generator's weights are the source's.
dcan = dict(
    type="DCANHook",
    target_dataset=cityscapes_images,
    generator=dict(encoder="vgg19"),
    align_after="res3",
    gen_loss_weight=0.1,
    gen_optim=dict(lr=1e-3),
    num_workers=4,
)
