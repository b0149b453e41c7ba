# FCN8s-VGG16 from GTA5 to Cityscapes, as in the paper. First
#   python tools/train.py configs/dcan/generator_vgg19_gta5-cityscapes.py
_base_ = "gta5-cityscapes_fcn8s-vgg16_source.py"
custom_hooks = [
    dict(
        type="DCANHook",
        target_dataset={{_base_.cityscapes_images}},
        generator=dict(
            encoder="vgg19",
            weights="work_dirs/generator_vgg19_gta5-cityscapes/iter_20000.pth",
        ),
        align_after="features.8",  # the end of conv3
        num_targets=1,
        gen_loss_weight=0.1,
        gen_optim=dict(lr=1e-5),
        num_workers=4,
    ),
]
