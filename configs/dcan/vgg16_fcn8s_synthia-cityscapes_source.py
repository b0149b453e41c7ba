# FCN8s-VGG16 trained on SYNTHIA alone.
_base_ = ["_base_/models/vgg16_fcn8s.py", "_base_/recipes/synthia-cityscapes.py"]
custom_imports = dict(imports=[*_base_.custom_imports.imports, *_base_.model_imports])
model = dict(decode_head=dict(num_classes=16))
optim_wrapper = dict(optimizer=dict(lr=1e-5))
custom_hooks = [dict(type="RandomStateHook")]
