_base_ = ["../models/patchdrop_cifar.py", "../datasets/cifar10.py", "../runtime.py"]
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.patchdrop_classifier",
    ]
)
