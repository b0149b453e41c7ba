# For training by epochs on class folders: as runtime.py, with a checkpoint after each epoch, the
# best one beside them, and a list of files that cannot be read.
_base_ = "runtime.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.datasets.image_folders",
    ]
)
custom_hooks = [*_base_.custom_hooks, dict(type="CorruptImagesHook")]
default_hooks = dict(
    logger=dict(interval=100),
    checkpoint=dict(by_epoch=True, interval=1, save_best="accuracy/top1", rule="greater"),
)
log_processor = dict(by_epoch=True)
