# FCN8s-VGG16 from GTA5 to Cityscapes, as in the paper. First
#   dynbackbones train configs/dcan/generator_vgg19_gta5-cityscapes.py
_base_ = "vgg16_fcn8s_gta5-cityscapes_source.py"
custom_hooks = [
    # features.8 is the end of conv3.
    dict(_base_.dcan, align_after="features.8", gen_optim=dict(lr=1e-5)),
]
