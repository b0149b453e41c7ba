# SAR, appendix B: learning rate 0.1 * batch size / 64, cosine, 300 epochs of batches of 128.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.2, momentum=0.9, weight_decay=1e-4, nesterov=True),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", begin=0, end=117300, eta_min=0, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=117300, val_interval=3910)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
