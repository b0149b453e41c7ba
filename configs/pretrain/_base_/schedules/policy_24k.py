# BlockDrop, section 4.1: Adam at 1e-4; the length is not in the paper. 24,000 iterations of the
# paper's batch of 2,048 are about 1,000 epochs of CIFAR.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4))
param_scheduler = None
train_cfg = dict(type="IterBasedTrainLoop", max_iters=24000, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
