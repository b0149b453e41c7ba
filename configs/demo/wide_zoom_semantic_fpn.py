# The segmentor of wide_semantic_fpn.py, with its checkpoint as it is: the whole scene at a quarter
# of its resolution, and a quarter of its patches in full.
_base_ = "wide_semantic_fpn.py"
custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        "dynbackbones.integrations.openmmlab.zoom_segmentor",
    ]
)
model = dict(
    _delete_=True,
    type="ZoomSegmentor",
    segmentor=_base_.model,
    policy="entropy",
    patch=256,
    scale=4,
    halo=32,
    rate=0.25,
)
# Without pictures of regions, which a plain backbone has none of.
custom_hooks = [dict(type="DynamicBackboneHook")]
# What dynbackbones.experiments.zoom_segmentation trains policies on.
gains_dataset = dict(_base_.test_dataloader.dataset, split="gains")
