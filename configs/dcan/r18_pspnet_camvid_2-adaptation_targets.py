# As r18_pspnet_camvid_2-adaptation.py, for dynbackbones compare: how many of eight target images
# each source image meets (DCAN, figure 6.5), one at random, two, four or all.
_base_ = "r18_pspnet_camvid_2-adaptation.py"
dcan = dict(
    _base_.dcan,
    target_dataset=dict(_base_.dcan.target_dataset, indices=[0, 5, 10, 15, 20, 25, 30, 35]),
)
custom_hooks = [*_base_.hooks, dcan]
variants = dict(
    _delete_=True,
    **{f"{count} of 8": {"custom_hooks.1.num_targets": count} for count in (1, 2, 4, 8)},
)
