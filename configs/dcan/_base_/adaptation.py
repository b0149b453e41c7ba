# Adapts a small trained segmentor; for dynbackbones compare: what the levels of alignment bring.
# Who builds on this says where from and where to.
_base_ = "small_vgg.py"
hooks = [dict(type="DynamicBackboneHook")]
dcan = dict(
    type="DCANHook",
    generator_scale=2,
    align_after="res3",
    gen_optim=dict(lr=1e-4, weight_decay=0),
    num_workers=0,
)
variants = {
    "source only": {"custom_hooks": hooks},
    "pixel level": {"custom_hooks.1.align_after": None},
    "feature level": {"custom_hooks.1.generator": None},
}
variant_metrics = ["mIoU", "mAcc", "aAcc"]
