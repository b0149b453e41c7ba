# FCN8s-VGG16 trained on SYNTHIA alone.
_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/synthia_cityscapes.py",
    "_base_/schedules/100k.py",
    "../mmseg/_base_/runtime.py",
]
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.datasets.driving",
        "dynbackbones.integrations.openmmlab.heads.fcn8s",
        "dynbackbones.integrations.openmmlab.datasets.subset_iou",
        "mmpretrain.models",
    ]
)
model = dict(decode_head=dict(num_classes=16))
optim_wrapper = dict(optimizer=dict(lr=1e-5))
custom_hooks = [dict(type="RandomStateHook")]
