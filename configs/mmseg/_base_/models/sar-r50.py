# r50.py with a SAR-ResNet-50: G2 s4 alpha1 at target rate 0.5, as in SAR's Table IX.
_base_ = "r50.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="SARResNet",
        depth=50,
        output_stride=16,
        groups=2,
        base_scale=4,
        alpha=1,
        target_rate=0.5,
        # For fine-tuning from a pretrained SAR-ResNet, whose file goes here:
        #     init_cfg=dict(type="Pretrained", checkpoint="sar_resnet50.pth"),
        # Without one, set target_schedule="ramp" and temperature=(1.0, 0.01).
        target_schedule="constant",
        temperature=(0.1, 0.01),
        selector_margin=2,
        norm_cfg=_base_.norm_cfg,
    )
)
