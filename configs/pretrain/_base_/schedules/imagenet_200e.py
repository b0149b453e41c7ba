# SAR, appendix B: 200 epochs of SGD, 5 of them warm-up, 0.1 for a batch of 256, cosine.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=5, end=200, eta_min=0, convert_to_iter_based=True),
]
# The learning rate follows the batch, as in the paper.
auto_scale_lr = dict(enable=True, base_batch_size=256)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=200, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
