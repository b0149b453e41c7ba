# What every run with OpenMMLab's packages shares. Registers this project's backbones, hooks and
# data helpers.
custom_imports = dict(imports=["dynbackbones.integrations.openmmlab"], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Never one: mmengine deletes the old file before it writes the new one, so that a run that is
    # killed meanwhile would have lost everything.
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2000, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
# What mean_pattern matches is averaged over the log interval; other values are the latest. What
# validation logs too (accuracy, rates, MACs) may not be averaged, or the log would show means over
# validations.
log_processor = dict(by_epoch=False)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(vis_backends=vis_backends, name="visualizer")
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0, diff_rank_seed=True)
log_level = "INFO"
load_from = None
resume = False
