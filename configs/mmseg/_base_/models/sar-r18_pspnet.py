_base_ = "r18_pspnet.py"
model = dict(
    backbone=dict(
        type="SARResNet",
        groups=2,
        base_scale=2,
        alpha=2,
        target_rate=0.5,
        # A few thousand iterations from scratch: see the selectors' learning rate too.
        selector_margin=2,
    )
)
