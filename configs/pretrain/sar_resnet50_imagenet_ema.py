# The same with an exponential moving average of the weights: it is evaluated, and it is what the
# checkpoints hold; the trained weights are under ema_state_dict.
_base_ = "sar_resnet50_imagenet.py"
custom_hooks = [
    *_base_.custom_hooks,
    # Norm statistics too: those of the trained weights do not fit the averaged ones.
    dict(type="EMAHook", momentum=1e-4, update_buffers=True),
]
