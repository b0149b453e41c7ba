# FCN8s-ResNet101 trained on GTA5 alone.
_base_ = ["_base_/models/r101_fcn8s.py", "_base_/recipes/gta5-cityscapes.py"]
custom_imports = dict(imports=[*_base_.custom_imports.imports, *_base_.model_imports])
