# As r18_pspnet_camvid_2-adaptation.py, for dynbackbones compare: after which stage features are
# aligned (DCAN, table 6.4), and images drawn by a generator that learns no more (table 6.3).
_base_ = "r18_pspnet_camvid_2-adaptation.py"
variants = dict(
    _delete_=True,
    **{"after res3": {}, "no alignment": {"custom_hooks.1.align_after": None}},
    **{f"after {name}": {"custom_hooks.1.align_after": name} for name in ("res2", "res4", "res5")},
    **{"two stages": {"custom_hooks.1.end_to_end": False, "custom_hooks.1.gen_loss_weight": 0}},
)
