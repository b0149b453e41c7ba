_base_ = [
    "../models/glance_focus_imagenet.py",
    "../datasets/imagenet.py",
    "../schedules/glance_focus_60e.py",
    "../runtime_imagenet.py",
]
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.glance_focus_classifier",
    ]
)
log_processor = dict(mean_pattern=r"loss|time|grad_norm|reward|accuracy")
