# GTA5, 19 classes: images/ and labels/ with all ten parts of the download. 1914 x 1052 pixels
# become 1024 x 563, of which a crop of 1024 x 512 is taken.
_base_ = "cityscapes.py"
gta5_root = "data/gta5"
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type="GTA5Dataset",
            data_root=gta5_root,
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations"),
                dict(type="CheckLabels", num_classes=19),
                *_base_.source_crop,
            ],
        ),
    ),
)
dcan = dict(
    num_targets=1,
    generator=dict(weights="work_dirs/generator_vgg19_gta5-cityscapes/iter_20000.pth"),
)
