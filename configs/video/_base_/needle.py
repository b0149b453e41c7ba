# Videos in which a digit shows for 6 of 60 frames; features are written on first use, in minutes.
_base_ = "loaders.py"
train_dataloader = dict(
    dataset=dict(dataset=dict(type="NeedleFeatures", split="train", spliced=True))
)
val_dataloader = dict(dataset=dict(type="NeedleFeatures", split="val"))
test_dataloader = val_dataloader
