# Adapts the segmentor of r18_pspnet_camvid_1-source.py to dusk, without labels of it; for
# dynbackbones compare:
#   dynbackbones train configs/dcan/generator_small-vgg_camvid_1-reconstruct.py
#   dynbackbones train configs/dcan/generator_small-vgg_camvid_2-style.py
#   dynbackbones train configs/dcan/r18_pspnet_camvid_1-source.py
#   dynbackbones compare configs/dcan/r18_pspnet_camvid_2-adaptation.py
_base_ = ["r18_pspnet_camvid_1-source.py", "_base_/adaptation.py"]
load_from = "work_dirs/r18_pspnet_camvid_1-source/iter_2000.pth"
dcan = dict(
    _base_.dcan,
    target_dataset=_base_.dusk_images,
    generator=dict(
        _base_.small_vgg,
        weights="work_dirs/generator_small-vgg_camvid_2-style/iter_600.pth",
    ),
    picture_interval=100,
)
custom_hooks = [*_base_.hooks, dcan]
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=300, by_epoch=False)]
train_cfg = dict(max_iters=300, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=100))

variants = {
    "DCAN": {},
    # With the labels of the target images, which the others do not see.
    "oracle": {
        "custom_hooks": _base_.hooks,
        "train_dataloader.dataset.dataset": _base_.dusk_labelled,
    },
}
