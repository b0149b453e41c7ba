# FCN8s-VGG16 trained on GTA5 alone.
_base_ = ["_base_/models/vgg16_fcn8s.py", "_base_/recipes/gta5-cityscapes.py"]
custom_imports = dict(imports=[*_base_.custom_imports.imports, *_base_.model_imports])
optim_wrapper = dict(optimizer=dict(lr=1e-5))
custom_hooks = [dict(type="RandomStateHook")]
