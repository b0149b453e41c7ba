# Small enough to train from scratch on a CPU.
_base_ = "r50_pspnet.py"
norm_cfg = dict(type="BN", requires_grad=True)
head = dict(num_classes=11, norm_cfg=norm_cfg)
model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(
        _delete_=True, type="StaticResNet", depth=18, output_stride=16, norm_cfg=norm_cfg
    ),
    decode_head=dict(head, in_channels=512, channels=128),
    auxiliary_head=dict(head, in_channels=256, channels=64),
)
del head
