# The demo's generator, first of two stages: encoder and decoder give images back.
_base_ = ["_base_/generator.py", "_base_/datasets/digits_day_night.py"]
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.datasets.digits",
        "dynbackbones.integrations.openmmlab.datasets.night",
    ]
)
model = dict(
    stage="reconstruct",
    generator=dict(
        encoder="small_vgg",
        encoder_weights="random",
        # Few layers, so that little is lost and the training is short.
        channels=(16, 32, 64, 192),
        convolutions=(1, 1, 1, 1),
    ),
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(dataset=dict(datasets=[{{_base_.day_crops}}, {{_base_.night_crops}}])),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=2000, eta_min=1e-5, by_epoch=False)]
train_cfg = dict(max_iters=2000)
default_hooks = dict(checkpoint=dict(interval=500))
