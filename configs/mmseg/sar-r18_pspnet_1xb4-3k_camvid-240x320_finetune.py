# Goes on from what r18_pspnet_1xb4-3k_camvid-240x320.py trained, and as long.
_base_ = ["_base_/models/sar-r18_pspnet_finetune.py", "_base_/recipes/1xb4-3k_camvid-240x320.py"]
load_from = "work_dirs/r18_pspnet_1xb4-3k_camvid-240x320/iter_3000.pth"
