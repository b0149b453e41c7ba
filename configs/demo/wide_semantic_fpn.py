# One segmentor for both scales of large scenes, which wide_zoom_semantic_fpn.py then looks at in
# two steps:
#   dynbackbones train configs/demo/wide_semantic_fpn.py
#   dynbackbones test configs/demo/wide_zoom_semantic_fpn.py \
#       work_dirs/wide_semantic_fpn/iter_500.pth
_base_ = "semantic_fpn.py"
train_dataloader = dict(dataset=dict(dataset=dict(type="WideDigitsDataset")))
val_dataloader = dict(dataset=dict(type="WideDigitsDataset"))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=50, end=500, by_epoch=False),
]
train_cfg = dict(max_iters=500)
