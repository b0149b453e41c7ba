# Spatial context networks: pairs of patches of unlabelled images, a student, a teacher.
_base_ = "runtime.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.spatial_context",
    ]
)
# The scale of the targets, and the teacher's name in checkpoints; files that cannot be read.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="SpatialContextHook"),
    dict(type="CorruptImagesHook"),
]
log_processor = dict(mean_pattern=r"loss|time|grad_norm|explained_variance")
model = dict(
    type="SpatialContextNetwork",
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
)
# dynbackbones train ... --cfg-options data_root=my/images proposals=boxes.json
data_root = "data/images"
proposals = None
pairs = dict(type="PatchPairs", data_root=data_root, proposals=proposals)
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="SeededSampler"),
    dataset=dict(type="SeededDataset", dataset=pairs),
)
# Of the same folder unless another one is named: enough to see whether offsets are used.
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(pairs, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ContextError")
test_evaluator = val_evaluator
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
