_base_ = "../../_base_/runtime.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.blockdrop_classifier",
    ]
)
# Schedules (the curriculum too), logs, exact resume.
custom_hooks = [dict(type="DynamicBackboneHook")]
default_scope = "mmpretrain"
log_processor = dict(
    mean_pattern=r"loss|time|grad_norm|accuracy_top|reward|action_entropy|(greedy|sampled)_"
)
visualizer = dict(type="UniversalVisualizer")
