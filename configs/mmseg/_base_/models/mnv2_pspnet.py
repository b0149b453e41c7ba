# r50_pspnet.py with a MobileNetV2, whose features have fewer channels.
_base_ = "r50_pspnet.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="StaticMobileNetV2",
        output_stride=16,
        norm_cfg=_base_.norm_cfg,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://mobilenet_v2"),
    ),
    decode_head=dict(in_channels=320),
    auxiliary_head=dict(in_channels=96),
)
