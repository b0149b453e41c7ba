# He et al. (2016), section 4.2: batch 128, 64,000 iterations.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[32000, 48000], gamma=0.1, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=64000, val_interval=4000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
