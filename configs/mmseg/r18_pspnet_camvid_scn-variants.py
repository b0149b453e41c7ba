# What pretraining on spatial context brings a segmentor: PSPNet with ResNet-18 on CamVid at half
# size, a short training, from nothing and from what each variant of
# configs/pretrain/scn_resnet18_camvid-small.py gave; for dynbackbones compare, after
#   dynbackbones compare configs/pretrain/scn_resnet18_camvid-small.py --seeds 0 \
#       --work-dir work_dirs/scn
_base_ = [
    "_base_/models/r18_pspnet.py",
    "_base_/datasets/camvid.py",
    "_base_/schedules/3k_small.py",
    "_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(128, 176)))
scale = (240, 180)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=11),
    dict(type="RandomResize", scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(128, 176), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
# Labels stay in the images' own size, in which predictions are scored.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="CheckLabels", num_classes=11),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(dataset=dict(pipeline=train_pipeline))
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=20, end=400, by_epoch=False),
]
train_cfg = dict(max_iters=400, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400), logger=dict(interval=20))


def pretrained(folder):
    checkpoint = f"work_dirs/scn/seed0/{folder}/iter_600.pth"
    return {
        "model.backbone.init_cfg": dict(
            type="Pretrained", checkpoint=checkpoint, prefix="backbone."
        )
    }


variants = {
    "from nothing": {},
    "distillation, edge boxes": pretrained("distillation-edge-boxes"),
    "context, random boxes": pretrained("context-random-boxes"),
    "context, edge boxes": pretrained("context-edge-boxes"),
}
variant_metrics = ["mIoU", "aAcc"]
