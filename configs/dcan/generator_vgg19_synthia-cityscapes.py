# As generator_vgg19_gta5-cityscapes.py, with SYNTHIA's images.
_base_ = "generator_vgg19_gta5-cityscapes.py"
source = dict(
    _base_.source,
    type="SynthiaDataset",
    data_root="data/synthia/RAND_CITYSCAPES",
    data_prefix=dict(img_path="RGB"),
)
target = dict(_base_.target, times=3)
train_dataloader = dict(dataset=dict(dataset=dict(datasets=[source, target])))
