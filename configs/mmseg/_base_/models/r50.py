# A ResNet-50 with mmseg's auxiliary head on res4 and all of its main head but what the head is.
_base_ = "segmentor.py"
norm_cfg = dict(type="SyncBN", requires_grad=True)
head = dict(
    num_classes=21,
    norm_cfg=norm_cfg,
    dropout_ratio=0.1,
    align_corners=False,
)
model = dict(
    data_preprocessor=dict(size=(513, 513)),
    backbone=dict(
        type="StaticResNet",
        depth=50,
        output_stride=16,
        norm_cfg=norm_cfg,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    decode_head=dict(
        head,
        in_channels=2048,
        in_index=3,
        channels=512,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        head,
        type="FCNHead",
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)
del head
