# mnv2_pspnet.py with a SAR-MobileNetV2: G2 s2 alpha1 at target rate 0.5.
_base_ = "mnv2_pspnet.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="SARMobileNetV2",
        output_stride=16,
        target_rate=0.5,
        # For fine-tuning from a pretrained one, as in sar-r50.py.
        target_schedule="constant",
        temperature=(0.1, 0.01),
        selector_margin=2,
        norm_cfg=_base_.norm_cfg,
    )
)
