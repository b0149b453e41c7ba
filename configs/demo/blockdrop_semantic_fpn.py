# Goes on from the plain segmentor of semantic_fpn.py and learns which blocks each image needs:
#   dynbackbones train configs/demo/semantic_fpn.py
#   dynbackbones train configs/demo/blockdrop_semantic_fpn.py
_base_ = "sar_semantic_fpn.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="BlockDropResNet",
        depth=18,
        policy_size=64,
        policy_training="reinforce",
        norm_cfg=dict(type="BN", requires_grad=True),
    )
)
load_from = "work_dirs/semantic_fpn/iter_1000.pth"
custom_hooks = [
    # Milder than the defaults: a policy that always fails learns nothing.
    dict(type="DynamicBackboneHook", policy=dict(gamma=1.0, tolerance=0.5, curriculum=1.0)),
    dict(type="RegionPictureHook", num_images=4),
]
optim_wrapper = dict(optimizer=dict(lr=2e-4))
