# The demo of domain adaptation, on one or two CPU cores (docs/dcan.md): a segmentor for scenes by
# day, which all variants of semantic-fpn_digits_2-adaptation.py start from. Scored by night.
_base_ = ["../demo/semantic_fpn.py", "_base_/datasets/digits_day_night.py"]
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.night",
    ]
)
model = dict(data_preprocessor=dict(size=(96, 128)))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(dataset=_base_.day_labelled),
)
val_dataloader = dict(dataset=_base_.night_val)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=30, end=400, by_epoch=False),
]
train_cfg = dict(max_iters=400, val_interval=400)
