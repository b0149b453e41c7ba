# BlockDrop, section 4.1: Adam, 1e-4 for the curriculum; the lengths are not in the paper.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4))
param_scheduler = None
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=45, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
