# A small generator, first of two stages: encoder and decoder give images back.
_base_ = ["generator.py", "small_vgg.py"]
model = dict(stage="reconstruct", generator=dict(_base_.small_vgg, encoder_weights="random"))
train_dataloader = dict(num_workers=0, persistent_workers=False)
default_hooks = dict(checkpoint=dict(interval=500))
