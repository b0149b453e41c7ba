_base_ = "sar-r50_finetune.py"
model = dict(decode_head=dict(type="PSPHead", pool_scales=(1, 2, 3, 6)))
