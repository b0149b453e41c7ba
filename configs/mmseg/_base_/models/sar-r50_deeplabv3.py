_base_ = "sar-r50.py"
model = dict(decode_head=dict(type="ASPPHead", dilations=(1, 6, 12, 18)))
