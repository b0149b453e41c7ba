_base_ = ["../datasets/voc12aug.py", "../schedules/40k.py", "../runtime.py"]
