# SAR, appendix B: learning rate 0.1 * batch size / 64, cosine, 300 epochs of batches of 128.
_base_ = "plain_64k.py"
optim_wrapper = dict(optimizer=dict(lr=0.2, nesterov=True))
param_scheduler = [
    dict(type="CosineAnnealingLR", begin=0, end=117300, eta_min=0, by_epoch=False),
]
train_cfg = dict(max_iters=117300, val_interval=3910)
