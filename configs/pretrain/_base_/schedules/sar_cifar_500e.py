# SAR, appendix B, for figure 4 and table IV: as 300e, but 500 epochs.
_base_ = "sar_cifar_300e.py"
param_scheduler = [
    dict(type="CosineAnnealingLR", begin=0, end=195500, eta_min=0, by_epoch=False),
]
train_cfg = dict(max_iters=195500)
