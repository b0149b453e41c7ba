# Minutes on one CPU core; far from converged.
_base_ = "plain_64k.py"
optim_wrapper = dict(optimizer=dict(lr=0.15, weight_decay=5e-4, nesterov=True))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=80, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=80, end=400, eta_min=0, by_epoch=False),
]
train_cfg = dict(max_iters=400, val_interval=400)
