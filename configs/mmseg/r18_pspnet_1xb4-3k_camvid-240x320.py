_base_ = ["_base_/models/r18_pspnet.py", "_base_/recipes/1xb4-3k_camvid-240x320.py"]
