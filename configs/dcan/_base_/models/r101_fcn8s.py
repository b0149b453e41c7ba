# A batch of three is too small for statistics: batch norm keeps ImageNet's.
_base_ = "../../../mmseg/_base_/models/segmentor.py"
model_imports = ["dynbackbones.integrations.openmmlab.heads.fcn8s"]
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(
        type="StaticResNet",
        depth=101,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),
    ),
    decode_head=dict(
        type="FCN8sHead",
        in_channels=[512, 1024, 2048],
        channels=2048,
        dropout_ratio=0.1,
        num_classes=19,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)
