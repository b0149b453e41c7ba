_base_ = [
    "_base_/models/pspnet_sar-r50.py",
    "_base_/datasets/voc12aug.py",
    "_base_/schedules/40k.py",
    "_base_/runtime.py",
]
