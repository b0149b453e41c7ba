_base_ = ["../models/patchdrop_cifar.py", "../datasets/cifar10_packed.py", "../runtime.py"]
model = dict(classifier=dict(name="patchdrop_cifar_resnet8"), channels_last=True)
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.patchdrop_classifier",
    ]
)
