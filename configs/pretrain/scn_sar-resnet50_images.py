# As scn_resnet50_images.py for a SAR-ResNet-50, of which there are no public weights: it starts
# from nothing, and all of it trains. Not measured at this size.
_base_ = "scn_resnet50_images.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="SARResNet",
        depth=50,
        groups=2,
        base_scale=2,
        alpha=2,
        target_rate=0.5,
        # Beside a loss that begins at the teacher's number of channels.
        loss_weight=150,
        out_indices=(3,),
    )
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
