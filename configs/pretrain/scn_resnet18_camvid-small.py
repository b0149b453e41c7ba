# ResNet-18 from nothing on CamVid's training images, without their labels, in some 20 minutes of a
# CPU core; the teacher knows ImageNet (EfficientNet-Lite0, see docs/pretraining.md). Its variants
# see as many patches and pairs for as long; dynbackbones compare trains them all:
#   dynbackbones make-proposals data/camvid/img_dir/train -o data/camvid/boxes.json
_base_ = "_base_/spatial_context.py"
model = dict(
    backbone=dict(type="StaticResNet", depth=18, out_indices=(3,)),
    target_generator=dict(
        type="ImageNetTeacher", pretrained="data/efficientnet-lite0-57934424.pth"
    ),
    cached_targets=10000,
)
data_root = "data/camvid/img_dir/train"
proposals = "data/camvid/boxes.json"
pairs = dict(
    data_root=data_root,
    patch_size=64,
    boxes=8,
    max_iou=0.2,
    proposals=proposals,
    cached_images=400,
)
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(dataset=pairs))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=pairs)
test_dataloader = val_dataloader
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-2),
    clip_grad=dict(max_norm=35),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=20, end=600, eta_min=0, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=20))

variants = {
    "context, edge boxes": {},
    "context, random boxes": {
        "train_dataloader.dataset.dataset.proposals": None,
        "val_dataloader.dataset.proposals": None,
    },
    "distillation, edge boxes": {
        "train_dataloader.dataset.dataset.distillation": True,
        "val_dataloader.dataset.distillation": True,
    },
}
variant_metrics = ["context/r2", "context/r2_shuffled"]
