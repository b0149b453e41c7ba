# SAR-MobileNetV2 on ImageNet, the authors' recipe: 0.204 GMACs at rate 0.5.
_base_ = "sar_resnet50_imagenet.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="SARMobileNetV2",
        last_conv=True,
        out_indices=(4,),
        target_rate=0.5,
        loss_weight=0.5,
    ),
    head=dict(in_channels=1280),
)
# 0.05 for 256 images.
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=4e-5))
