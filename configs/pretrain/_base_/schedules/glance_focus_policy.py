# The authors' code: Adam, 3e-4, batch 256, 15 epochs.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=3e-4))
param_scheduler = None
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=15, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
