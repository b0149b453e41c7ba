# PSPNet-ResNet50 trained on GTA5 alone.
_base_ = ["_base_/models/r50_pspnet.py", "_base_/recipes/gta5-cityscapes.py"]
