# Registers the backbones, the hooks, the data helpers and the classifier of this project.
custom_imports = dict(
    imports=[
        "dynbackbones.integrations.openmmlab",
        "dynbackbones.integrations.openmmlab.blockdrop_classifier",
    ],
    allow_failed_imports=False,
)
# Schedules (the curriculum too), logs, exact resume.
custom_hooks = [dict(type="DynamicBackboneHook")]

default_scope = "mmpretrain"
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2000, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
# Averaged over the log interval; other values are the latest. What validation logs too (accuracy,
# rates, MACs) may not be averaged, or the log would show means over validations.
log_processor = dict(
    by_epoch=False,
    mean_pattern=r"loss|time|grad_norm|accuracy_top|reward|action_entropy|(greedy|sampled)_",
)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="UniversalVisualizer", vis_backends=vis_backends, name="visualizer")
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0, diff_rank_seed=True)
log_level = "INFO"
load_from = None
resume = False
