_base_ = ["_base_/models/x50-32x4d_pspnet.py", "_base_/recipes/4xb4-20k_voc12aug-513x513.py"]
