# A ResNet-50 that knows ImageNet learns from the context in a folder of unlabelled images; its last
# stage trains, as what gained most in the dissertation's table 5.3. Not measured at this size.
#   dynbackbones make-proposals my/images -o boxes.json
#   dynbackbones train configs/pretrain/scn_resnet50_images.py --cfg-options \
#       data_root=my/images proposals=boxes.json
_base_ = "_base_/spatial_context.py"
weights = "torchvision://resnet50"
model = dict(
    backbone=dict(
        type="StaticResNet",
        depth=50,
        out_indices=(3,),
        frozen_stages=3,
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint=weights),
    ),
    target_generator=dict(
        type="ContextTeacher",
        backbone=dict(type="StaticResNet", depth=50, out_indices=(3,)),
        pretrained=weights,
    ),
)
pairs = dict(patch_size=224)
train_dataloader = dict(dataset=dict(dataset=pairs))
val_dataloader = dict(dataset=pairs)
test_dataloader = dict(dataset=pairs)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-2),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=500, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=500, end=20000, eta_min=0, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=20000, val_interval=2000)
