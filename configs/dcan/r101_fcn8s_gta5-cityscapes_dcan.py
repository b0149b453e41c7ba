# FCN8s-ResNet101 from GTA5 to Cityscapes, as in the paper. First
#   dynbackbones train configs/dcan/generator_vgg19_gta5-cityscapes.py
_base_ = "r101_fcn8s_gta5-cityscapes_source.py"
custom_hooks = [dict(type="DynamicBackboneHook"), _base_.dcan]
