_base_ = ["_base_/models/sar-r50_deeplabv3.py", "_base_/recipes/4xb4-40k_voc12aug-513x513.py"]
