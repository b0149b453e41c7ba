# LiteEval on needle videos: a tenth of the frames, in about a minute of a CPU core.
_base_ = ["_base_/runtime.py", "_base_/needle.py", "_base_/schedule.py"]
model = dict(
    type="VideoRecognizer",
    net=dict(
        type="LiteEval",
        coarse_channels=32,
        fine_channels=64,
        num_classes=10,
        coarse_hidden=32,
        fine_hidden=128,
        target_rate=0.1,
    ),
    frame_macs=dict(coarse=0.47e6, fine=2.95e6),
)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, by_epoch=False, begin=0, end=16),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=16, end=160),
]
train_cfg = dict(max_iters=160, val_interval=80)
default_hooks = dict(checkpoint=dict(interval=80), logger=dict(interval=20))
