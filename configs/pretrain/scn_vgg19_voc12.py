# The network and schedule of the dissertation, VGG-19 on VOC 2012: the student starts as the
# teacher, and its last convolutions train. Targets are averages of their maps, as mmpretrain's VGG
# has no fc7 to give, and detectors would not see what was learned there. Not measured.
#   dynbackbones make-proposals data/VOCdevkit/VOC2012/JPEGImages -o data/voc12_boxes.json
_base_ = "_base_/spatial_context.py"
folder = "https://download.openmmlab.com/mmclassification/v0/vgg/"
weights = folder + "vgg19_batch256_imagenet_20210208-e6920e4a.pth"
# Without DynamicBackboneHook, which is for this package's networks.
custom_hooks = [
    dict(type="RandomStateHook"),
    dict(type="DivergenceHook"),
    dict(type="SpatialContextHook"),
    dict(type="CorruptImagesHook"),
]
model = dict(
    backbone=dict(
        type="VGG",
        depth=19,
        frozen_stages=4,
        init_cfg=dict(type="Pretrained", checkpoint=weights, prefix="backbone."),
    ),
    target_generator=dict(
        type="ContextTeacher", backbone=dict(type="VGG", depth=19), pretrained=weights
    ),
    # Of the student's last feature, which a network of mmpretrain's does not tell.
    neck=dict(channels=512),
    target_norm="none",
)
data_root = "data/VOCdevkit/VOC2012/JPEGImages"
proposals = "data/voc12_boxes.json"
pairs = dict(
    data_root=data_root,
    proposals=proposals,
    patch_size=224,
    boxes=8,
    max_iou=1.0,
)
train_dataloader = dict(dataset=dict(dataset=pairs))
val_dataloader = dict(dataset=pairs)
test_dataloader = val_dataloader
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4)
)
# 200 epochs of 160,000 pairs, a tenth of the learning rate after 100.
param_scheduler = [dict(type="MultiStepLR", milestones=[250000], gamma=0.1, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=500000, val_interval=10000)
