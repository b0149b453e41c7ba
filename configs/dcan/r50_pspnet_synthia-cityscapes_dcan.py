# PSPNet-ResNet50 from SYNTHIA to Cityscapes, as in the paper. First
#   dynbackbones train configs/dcan/generator_vgg19_synthia-cityscapes.py
_base_ = "r50_pspnet_synthia-cityscapes_source.py"
custom_hooks = [dict(type="DynamicBackboneHook"), _base_.dcan]
