# PSPNet-ResNet50 from GTA5 to Cityscapes, as in the paper. First
#   dynbackbones train configs/dcan/generator_vgg19_gta5-cityscapes.py
_base_ = "r50_pspnet_gta5-cityscapes_source.py"
custom_hooks = [dict(type="DynamicBackboneHook"), _base_.dcan]
