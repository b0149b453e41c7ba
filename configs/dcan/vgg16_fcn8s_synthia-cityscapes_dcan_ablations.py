# DCAN's tables 6.3 (without the rivals) and 6.4 as in the paper; for dynbackbones compare. conv6
# and conv7 are layers of the head here, after which nothing is aligned.
_base_ = "vgg16_fcn8s_synthia-cityscapes_dcan.py"
variants = {
    "conv3": {},
    "no alignment": {"custom_hooks.0.align_after": None},
    "two stages": {"custom_hooks.0.end_to_end": False, "custom_hooks.0.gen_loss_weight": 0},
    "conv2": {"custom_hooks.0.align_after": "features.4"},
    "conv4": {"custom_hooks.0.align_after": "features.12"},
    "conv5": {"custom_hooks.0.align_after": "features.16"},
}
variant_metrics = ["mIoU_16", "mIoU_13", "mIoU", "aAcc"]
