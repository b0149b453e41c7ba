# FCN8s-VGG16 trained on GTA5 alone.
_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/gta5_cityscapes.py",
    "_base_/schedules/100k.py",
    "../mmseg/_base_/runtime.py",
]
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.datasets.driving",
        "dynbackbones.integrations.openmmlab.heads.fcn8s",
        "mmpretrain.models",
    ]
)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
custom_hooks = [dict(type="RandomStateHook")]
