# PSPNet-ResNet50 trained on SYNTHIA alone.
_base_ = ["_base_/models/r50_pspnet.py", "_base_/recipes/synthia-cityscapes.py"]
model = dict(decode_head=dict(num_classes=16), auxiliary_head=dict(num_classes=16))
