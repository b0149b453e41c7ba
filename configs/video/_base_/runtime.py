# What runs of AdaFrame and LiteEval share, on features of videos; needs mmengine alone.
_base_ = "../../_base_/runtime.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.video_recognizer",
    ]
)
# LiteEval's temperature, exact resume, an end at the first loss that is not finite.
custom_hooks = [
    dict(type="ScheduleHook"),
    dict(type="RandomStateHook"),
    dict(type="DivergenceHook"),
]
default_hooks = dict(checkpoint=dict(interval=500))
default_scope = "mmengine"
visualizer = dict(type="Visualizer")
log_processor = dict(
    mean_pattern=r"loss|time|grad_norm|accuracy|reward|explained|spread|repeated|fine_rate"
)
