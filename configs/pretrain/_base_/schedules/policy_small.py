# Minutes on one CPU core; far from converged.
_base_ = "policy_24k.py"
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=300, val_interval=300)
