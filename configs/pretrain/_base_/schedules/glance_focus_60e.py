# The authors' code: batch 256, cosine by epoch; encoders a tenth of the head's rate.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True),
    paramwise_cfg=dict(
        custom_keys={"net.glance": dict(lr_mult=0.1), "net.local": dict(lr_mult=0.1)}
    ),
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=60, by_epoch=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=60, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
