# A few thousand iterations from scratch, a batch of four.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0005),
    clip_grad=dict(max_norm=5),
    # Selectors must follow the target rate's ramp, which is short here.
    paramwise_cfg=dict(custom_keys={".selectors.": dict(lr_mult=10)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-4, begin=100, end=3000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=3000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
