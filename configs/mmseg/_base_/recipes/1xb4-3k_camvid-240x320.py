_base_ = ["../datasets/camvid.py", "../schedules/3k_small.py", "../runtime.py"]
default_hooks = dict(checkpoint=dict(interval=250), logger=dict(interval=20))
