# The same with a plain ResNet-18, to compare with.
_base_ = "sar_semantic_fpn.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="StaticResNet",
        depth=18,
        norm_cfg=dict(type="BN", requires_grad=True),
    )
)
