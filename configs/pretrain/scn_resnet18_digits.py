# ResNet-18 from nothing on the demo dataset's images, without their labels, in BGR as its
# detectors; the teacher knows single digits. It has variants; what to run before:
#   dynbackbones spatial-context --output work_dirs/spatial_context --parts digits
#   dynbackbones make-proposals datasets/digits/train -o datasets/digits/boxes.json --min-size 14
_base_ = "scn_resnet18_camvid-small.py"
model = dict(
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], to_rgb=False
    ),
    target_generator=dict(
        _delete_=True,
        type="ContextTeacher",
        backbone=dict(type="StaticResNet", depth=18, out_indices=(3,)),
        pretrained="work_dirs/spatial_context/teacher/digits.pth",
    ),
)
data_root = "datasets/digits/train"
proposals = "datasets/digits/boxes.json"
pairs = dict(
    data_root=data_root,
    patch_size=32,
    proposals=proposals,
    cached_images=1000,
)
train_dataloader = dict(dataset=dict(dataset=pairs))
val_dataloader = dict(dataset=pairs)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=20, end=400, eta_min=0, by_epoch=False),
]
train_cfg = dict(max_iters=400, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=200), logger=dict(interval=50))
