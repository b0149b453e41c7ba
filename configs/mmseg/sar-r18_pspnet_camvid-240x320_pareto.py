# Quality against computation on CamVid: SAR from the trained plain segmentor beside plain ones at
# other input sizes. For dynbackbones compare; all rows are trained from the plain segmentor and for
# as long as each other. So that a training takes about five minutes of a core, images are smaller
# than in r18_pspnet_1xb4-3k_camvid-240x320.py and schedules shorter: differences count here, not
# the level. Predictions of any input size are compared with labels of full size.
_base_ = "r18_pspnet_1xb4-3k_camvid-240x320.py"


def at(height):
    scale, crop = (height * 4 // 3, height), (height * 2 // 3, height * 14 // 15)
    load, labels, check, pack = _base_.test_pipeline
    return {
        "train_dataloader.dataset.dataset.pipeline": [
            load,
            labels,
            check,
            dict(type="RandomResize", scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
            dict(type="RandomCrop", crop_size=crop, cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            pack,
        ],
        "val_dataloader.dataset.pipeline": [
            load,
            dict(type="Resize", scale=scale, keep_ratio=True),
            labels,
            check,
            pack,
        ],
        "model.data_preprocessor.size": crop,
    }


def for_iterations(count, lr):
    schedule = dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=40, end=count, by_epoch=False)
    return {
        "optim_wrapper.optimizer.lr": lr,
        "param_scheduler": [
            dict(type="LinearLR", start_factor=0.1, begin=0, end=40, by_epoch=False),
            schedule,
        ],
        "train_cfg.max_iters": count,
        "train_cfg.val_interval": count,
        "default_hooks.checkpoint.interval": count // 2,
    }


common = {**at(240), **for_iterations(280, 0.02)}
as_long = {**at(240), **for_iterations(140, 0.01), "_start_": "plain"}
sar = {
    **as_long,
    "_rates_": [0.3, 0.5],
    "model.backbone.type": "SARResNet",
    "model.backbone.layout": "resnet",
    "model.backbone.target_rate": 0.3,
    "model.backbone.loss_rate": "expected",
    "model.backbone.loss_weight": 2.0,
    "model.backbone.track_target": True,
    "model.backbone.selector_margin": 2,
}
guided = {**sar, "model.backbone.guidance": "borders", "model.backbone.guidance_weight": 0.25}
deeper = {"_run_": False, "model.backbone.depth": 34}

variants = {
    "plain, as long": as_long,
    "plain": common,
    "plain, 210 px": {**as_long, **at(210)},
    "SAR": sar,
    "SAR, guided": guided,
    "plain, 180 px": {**as_long, **at(180), "_run_": False},
    "plain ResNet-34": {**common, **deeper},
    "plain ResNet-34, as long": {**as_long, **deeper, "_start_": "plain ResNet-34"},
    "SAR ResNet-34, guided": {**guided, **deeper, "_start_": "plain ResNet-34"},
    "SAR, paper's layout from scratch": {
        **at(240),
        **for_iterations(420, 0.02),
        "_run_": False,
        "_rates_": [0.3, 0.5],
        "model.backbone.type": "SARResNet",
        "model.backbone.selector_margin": 2,
    },
}
variant_metrics = ["mIoU", "gmacs", "activation_rate", "milliseconds"]
