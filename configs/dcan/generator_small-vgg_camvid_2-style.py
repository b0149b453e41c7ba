# Second stage: the decoder learns to draw images in each other's style (eq. 6.2).
_base_ = "generator_small-vgg_camvid_1-reconstruct.py"
model = dict(
    stage="style",
    generator=dict(
        encoder_weights=None,
        weights="work_dirs/generator_small-vgg_camvid_1-reconstruct/iter_3000.pth",
    ),
)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=600, eta_min=1e-5, by_epoch=False)]
train_cfg = dict(max_iters=600)
default_hooks = dict(checkpoint=dict(interval=200))
