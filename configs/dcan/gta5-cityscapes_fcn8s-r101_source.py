# FCN8s-ResNet101 trained on GTA5 alone.
_base_ = [
    "_base_/models/fcn8s_r101.py",
    "_base_/datasets/gta5_cityscapes.py",
    "_base_/schedules/100k.py",
    "../mmseg/_base_/runtime.py",
]
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.datasets.driving",
        "dynbackbones.integrations.openmmlab.heads.fcn8s",
    ]
)
