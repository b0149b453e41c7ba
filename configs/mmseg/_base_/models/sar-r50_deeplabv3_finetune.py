_base_ = "sar-r50_finetune.py"
model = dict(decode_head=dict(type="ASPPHead", dilations=(1, 6, 12, 18)))
