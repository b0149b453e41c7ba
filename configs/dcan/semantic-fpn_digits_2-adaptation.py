# Adapts the segmentor of semantic-fpn_digits_1-source.py to scenes by night, of which it sees no
# labels; what the levels of alignment are worth, for dynbackbones compare:
#   dynbackbones train configs/dcan/generator_small-vgg_digits_1-reconstruct.py
#   dynbackbones train configs/dcan/generator_small-vgg_digits_2-style.py
#   dynbackbones train configs/dcan/semantic-fpn_digits_1-source.py
#   dynbackbones compare configs/dcan/semantic-fpn_digits_2-adaptation.py
_base_ = ["semantic-fpn_digits_1-source.py", "_base_/adaptation.py"]
load_from = "work_dirs/semantic-fpn_digits_1-source/iter_400.pth"
dcan = dict(
    _base_.dcan,
    target_dataset=_base_.night,
    generator=dict(
        _base_.small_vgg,
        weights="work_dirs/generator_small-vgg_digits_2-style/iter_300.pth",
    ),
    picture_interval=50,
)
custom_hooks = [*_base_.hooks, dcan]
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=100, by_epoch=False)]
train_cfg = dict(max_iters=100, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=50))

variants = {
    "both": {},
    # With the labels of the target images, which the others do not see.
    "oracle": {
        "custom_hooks": _base_.hooks,
        "train_dataloader.dataset.dataset": _base_.night_labelled,
    },
}
