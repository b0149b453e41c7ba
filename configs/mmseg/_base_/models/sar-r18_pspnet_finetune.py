_base_ = "r18_pspnet.py"
# As sar-r50_finetune.py has it.
model = dict(
    backbone=dict(
        type="SARResNet",
        layout="resnet",
        target_rate=0.3,
        guidance="borders",
        loss_rate="expected",
        loss_weight=2.0,
        track_target=True,
        # New selectors, in a schedule that is short for them.
        selector_margin=2,
    )
)
