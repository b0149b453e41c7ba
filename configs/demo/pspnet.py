# The same with a plain ResNet-18, to compare with.
_base_ = "sar_pspnet.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="StaticResNet",
        depth=18,
        output_stride=16,
        norm_cfg=dict(type="BN", requires_grad=True),
    )
)
