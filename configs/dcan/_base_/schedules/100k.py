# The paper's: SGD with momentum 0.99, a constant learning rate, 100,000 batches of three.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1e-3, momentum=0.99, weight_decay=0.0005),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=100000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
