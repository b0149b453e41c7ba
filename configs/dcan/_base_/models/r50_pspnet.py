_base_ = "../../../mmseg/_base_/models/r50_pspnet.py"
norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(output_stride=8, norm_cfg=norm_cfg, norm_eval=True),
    decode_head=dict(num_classes=19, norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=19, norm_cfg=norm_cfg),
)
