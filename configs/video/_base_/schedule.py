# Adam, whose rate rises over the first tenth and falls to 0 as a cosine; gradients clipped.
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="Adam", lr=3e-3), clip_grad=dict(max_norm=5)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=500, end=5000),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=5000, val_interval=1000)
val_cfg = dict()
test_cfg = dict()
