# Registers the backbones, the hooks and the data helpers of this project.
custom_imports = dict(imports=["dynbackbones.integrations.openmmlab"], allow_failed_imports=False)
# Auxiliary losses, schedules, logs, exact resume; and pictures of what was refined.
custom_hooks = [
    dict(type="DynamicBackboneHook"),
    dict(type="RegionPictureHook", num_images=4),
]

default_scope = "mmseg"
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2000, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
# Averaged over the log interval; other values are the latest. What validation logs too (rates,
# MACs) may not be averaged, or the log would show means over validations.
log_processor = dict(by_epoch=False, mean_pattern=r"loss|time|grad_norm|acc_seg")
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer")
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0, diff_rank_seed=True)
log_level = "INFO"
load_from = None
resume = False
tta_model = dict(type="SegTTAModel")
