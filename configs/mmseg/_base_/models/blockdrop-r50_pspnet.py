_base_ = "r50_pspnet.py"
# The plain network's weights fit, and load_from brings them; the policy starts anew.
model = dict(
    backbone=dict(
        type="BlockDropResNet", policy_size=224, policy_training="reinforce", init_cfg=None
    )
)
