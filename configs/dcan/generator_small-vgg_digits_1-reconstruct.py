# The demo's generator, first of two stages: encoder and decoder give images back.
_base_ = ["_base_/generator_small-vgg.py", "_base_/datasets/digits_day_night.py"]
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.digits",
        "dynbackbones.integrations.openmmlab.datasets.night",
    ]
)
train_dataloader = dict(dataset=dict(dataset=dict(datasets=[_base_.day_crops, _base_.night_crops])))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
