# Goes on from what r50_pspnet_4xb4-20k_voc12aug-513x513.py trained.
_base_ = [
    "_base_/models/sar-r50_pspnet_finetune.py",
    "_base_/recipes/4xb4-20k_voc12aug-513x513.py",
]
load_from = "work_dirs/r50_pspnet_4xb4-20k_voc12aug-513x513/iter_20000.pth"
