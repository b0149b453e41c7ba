_base_ = [
    "_base_/models/pspnet_sar-r18.py",
    "_base_/datasets/camvid.py",
    "_base_/schedules/3k_small.py",
    "_base_/runtime.py",
]
default_hooks = dict(checkpoint=dict(interval=250), logger=dict(interval=20))
