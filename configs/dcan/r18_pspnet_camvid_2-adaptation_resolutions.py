# DCAN at three sizes of the images (table 6.2), each from a network that was trained at that size
# by day; for dynbackbones compare, with the generator of r18_pspnet_camvid_2-adaptation.py.
_base_ = ["r18_pspnet_camvid_1-source.py", "_base_/adaptation.py"]
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
default_hooks = dict(checkpoint=dict(interval=100))
# Crop, and the (width, height) that images are resized to: 0.5, 0.625 and 1 of the usual.
sizes = {
    "64 x 88": ((64, 88), (120, 90)),
    "80 x 112": ((80, 112), (150, 112)),
    "128 x 176": ((128, 176), (240, 180)),
}
resized = {
    size: {
        "model.data_preprocessor.size": crop,
        "train_dataloader.dataset.dataset.pipeline.3.scale": scale,
        "train_dataloader.dataset.dataset.pipeline.4.crop_size": crop,
        "val_dataloader.dataset.pipeline.1.scale": scale,
        "test_dataloader.dataset.pipeline.1.scale": scale,
    }
    for size, (crop, scale) in sizes.items()
}
adapting = {
    "optim_wrapper.optimizer.lr": 5e-3,
    "param_scheduler": [
        dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=300, by_epoch=False)
    ],
    "train_cfg.max_iters": 300,
    "train_cfg.val_interval": 300,
}
by_day = {
    f"by day, {size}": {**resized[size], "custom_hooks": _base_.hooks, "_run_": False}
    for size in sizes
}
source_only = {
    f"source only, {size}": {
        **resized[size],
        **adapting,
        "custom_hooks": _base_.hooks,
        "_start_": f"by day, {size}",
    }
    for size in sizes
}
adapted = {
    f"DCAN, {size}": {
        **resized[size],
        **adapting,
        "custom_hooks.1.target_dataset.pipeline.1.scale": scale,
        "custom_hooks.1.target_dataset.pipeline.2.crop_size": crop,
        "_start_": f"by day, {size}",
    }
    for size, (crop, scale) in sizes.items()
}
variants = dict(_delete_=True, **source_only, **adapted, **by_day)
del sizes, resized, adapting, by_day, source_only, adapted
