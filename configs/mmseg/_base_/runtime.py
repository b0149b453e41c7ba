_base_ = "../../_base_/runtime.py"
# Auxiliary losses, schedules, logs, exact resume; and pictures of what was refined.
custom_hooks = [
    dict(type="DynamicBackboneHook"),
    dict(type="RegionPictureHook", num_images=4),
]
default_scope = "mmseg"
log_processor = dict(mean_pattern=r"loss|time|grad_norm|acc_seg")
visualizer = dict(type="SegLocalVisualizer")
tta_model = dict(type="SegTTAModel")
