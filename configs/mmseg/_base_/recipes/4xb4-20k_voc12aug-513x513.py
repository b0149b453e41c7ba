_base_ = ["../datasets/voc12aug.py", "../schedules/20k.py", "../runtime.py"]
