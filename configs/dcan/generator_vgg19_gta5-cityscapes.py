# The paper's generator: VGG-19 with torchvision's weights, and a decoder that learns from images of
# both domains (eq. 6.2), on crops of 256 x 256.
_base_ = "_base_/generator.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.driving",
    ]
)
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1024, 1024), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(256, 256)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
source = dict(
    type="GTA5Dataset",
    data_root="data/gta5",
    data_prefix=dict(img_path="images"),
    pipeline=pipeline,
)
target = dict(
    type="CityscapesDataset",
    data_root="data/cityscapes",
    data_prefix=dict(img_path="leftImg8bit/train"),
    pipeline=pipeline,
)
# About as many of one as of the other.
target = dict(type="RepeatDataset", times=8, dataset=target)
train_dataloader = dict(
    num_workers=4,
    dataset=dict(
        dataset=dict(
            datasets=[source, target],
            # The classes do not matter here.
            ignore_keys=["classes", "palette", "label_map"],
        )
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=20000, eta_min=1e-6, by_epoch=False)]
train_cfg = dict(max_iters=20000)
