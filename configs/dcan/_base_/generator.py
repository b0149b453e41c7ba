# Training of a style generator on unlabelled images; the dataset is the config's. Each image of a
# batch takes the style of the next, so that both domains must be in it.
_base_ = "../../mmseg/_base_/runtime.py"
model = dict(
    type="StyleGeneratorTraining",
    data_preprocessor=dict(type="ImgDataPreprocessor", bgr_to_rgb=True),
    stage="style",
    generator=dict(encoder="vgg19"),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="SeededSampler"),
    dataset=dict(type="SeededDataset", dataset=dict(type="ConcatDataset", datasets=[])),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="Adam", lr=1e-3),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=2000, eta_min=1e-5, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000)
custom_hooks = [
    dict(type="RandomStateHook"),
    dict(type="StylePictureHook", interval=250),
]
