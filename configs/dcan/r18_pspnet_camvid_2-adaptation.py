# Adapts the segmentor of r18_pspnet_camvid_1-source.py to dusk, without labels of it; for
# tools/compare.py:
#   python tools/train.py configs/dcan/generator_small-vgg_camvid_1-reconstruct.py
#   python tools/train.py configs/dcan/generator_small-vgg_camvid_2-style.py
#   python tools/train.py configs/dcan/r18_pspnet_camvid_1-source.py
#   python tools/compare.py configs/dcan/r18_pspnet_camvid_2-adaptation.py
_base_ = "r18_pspnet_camvid_1-source.py"
load_from = "work_dirs/r18_pspnet_camvid_1-source/iter_2000.pth"
hooks = [dict(type="DynamicBackboneHook")]
dcan = dict(
    type="DCANHook",
    target_dataset={{_base_.dusk_images}},
    generator=dict(
        encoder="small_vgg",
        channels=(16, 32, 64, 192),
        convolutions=(1, 1, 1, 1),
        weights="work_dirs/generator_small-vgg_camvid_2-style/iter_600.pth",
    ),
    generator_scale=2,
    align_after="res3",
    gen_optim=dict(lr=1e-4, weight_decay=0),
    num_workers=0,
    picture_interval=100,
)
custom_hooks = [*hooks, dcan]
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=300, by_epoch=False)]
train_cfg = dict(max_iters=300, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=100, max_keep_ckpts=1))

variants = {
    "source only": {"custom_hooks": hooks},
    "pixel level": {"custom_hooks.1.align_after": None},
    "feature level": {"custom_hooks.1.generator": None},
    "DCAN": {},
    # With the labels of the target images, which the others do not see.
    "oracle": {
        "custom_hooks": hooks,
        "train_dataloader.dataset.dataset": {{_base_.dusk_labelled}},
    },
}
variant_metrics = ["mIoU", "mAcc", "aAcc"]
