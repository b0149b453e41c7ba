# FCN8s-ResNet101 from SYNTHIA to Cityscapes, as in the paper. First
#   python tools/train.py configs/dcan/generator_vgg19_synthia-cityscapes.py
_base_ = "synthia-cityscapes_fcn8s-r101_source.py"
custom_hooks = [
    dict(type="DynamicBackboneHook"),
    dict(
        type="DCANHook",
        target_dataset={{_base_.cityscapes_images}},
        generator=dict(
            encoder="vgg19",
            weights="work_dirs/generator_vgg19_synthia-cityscapes/iter_20000.pth",
        ),
        align_after="res3",
        num_targets=2,
        gen_loss_weight=0.1,
        gen_optim=dict(lr=1e-3),
        num_workers=4,
    ),
]
