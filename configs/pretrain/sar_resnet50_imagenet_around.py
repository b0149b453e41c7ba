# Makes torchvision's ResNet-50 refine half of the regions; its classifier starts anew.
_base_ = "sar_resnet50_imagenet.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="SARResNet",
        depth=50,
        layout="resnet",
        target_rate=0.5,
        loss_rate="expected",
        track_target=True,
        # New selectors, in a schedule that is short for them.
        selector_margin=2,
        out_indices=(3,),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=1, end=30, eta_min=0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)
