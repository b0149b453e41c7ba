_base_ = ["../models/blockdrop_imagenet.py", "../datasets/imagenet.py", "../runtime_imagenet.py"]
