_base_ = ["_base_/models/sar-mnv2_pspnet.py", "_base_/recipes/4xb4-20k_voc12aug-513x513.py"]
