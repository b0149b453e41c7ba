# r50.py made to refine three tenths of the regions. The plain segmentor's weights fit, and
# load_from brings them.
_base_ = "r50.py"
model = dict(
    backbone=dict(
        type="SARResNet",
        layout="resnet",
        added_norm="SyncBN",
        target_rate=0.3,
        # Borders between classes draw the selectors, the loss and the thresholds keep the rate.
        guidance="borders",
        loss_rate="expected",
        loss_weight=2.0,
        track_target=True,
        # New selectors, in a schedule that is short for them.
        selector_margin=2,
        init_cfg=None,
    )
)
