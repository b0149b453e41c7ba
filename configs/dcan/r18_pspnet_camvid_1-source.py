# CamVid by day, from scratch on one or two CPU cores: what all variants of
# r18_pspnet_camvid_2-adaptation.py start from. Scored at dusk.
_base_ = [
    "../mmseg/_base_/models/r18_pspnet.py",
    "_base_/datasets/camvid_day_dusk.py",
    "../mmseg/_base_/schedules/3k_small.py",
    "../mmseg/_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(128, 176)))
train_dataloader = dict(num_workers=0, persistent_workers=False)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=50, end=2000, by_epoch=False),
]
train_cfg = dict(max_iters=2000, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=200), logger=dict(interval=20))
