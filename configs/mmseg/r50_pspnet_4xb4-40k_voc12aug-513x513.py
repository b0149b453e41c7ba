_base_ = ["_base_/models/r50_pspnet.py", "_base_/recipes/4xb4-40k_voc12aug-513x513.py"]
