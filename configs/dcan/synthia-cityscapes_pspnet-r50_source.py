# PSPNet-ResNet50 trained on SYNTHIA alone.
_base_ = [
    "_base_/models/pspnet_r50.py",
    "_base_/datasets/synthia_cityscapes.py",
    "_base_/schedules/100k.py",
    "../mmseg/_base_/runtime.py",
]
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.datasets.driving",
        "dynbackbones.integrations.openmmlab.datasets.subset_iou",
    ]
)
model = dict(decode_head=dict(num_classes=16), auxiliary_head=dict(num_classes=16))
