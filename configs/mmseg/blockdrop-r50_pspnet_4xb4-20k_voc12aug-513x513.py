# Goes on from the plain segmentor of r50_pspnet_4xb4-20k_voc12aug-513x513.py and learns which
# blocks each image needs. With policy_training="frozen", dynbackbones test has the results of the
# plain segmentor.
_base_ = [
    "_base_/models/blockdrop-r50_pspnet.py",
    "_base_/recipes/4xb4-20k_voc12aug-513x513.py",
]
load_from = "work_dirs/r50_pspnet_4xb4-20k_voc12aug-513x513/iter_20000.pth"
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    # Rewards of single samples are noisy.
    paramwise_cfg=dict(custom_keys={".policy.": dict(lr_mult=0.1)}),
)
