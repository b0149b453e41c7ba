# sar-r50_pspnet.py with a SAR-ResNeXt-50 (32x4d).
_base_ = "sar-r50_pspnet.py"
model = dict(backbone=dict(cardinality=32, width_per_group=4))
