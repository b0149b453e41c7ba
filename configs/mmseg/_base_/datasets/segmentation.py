# Loaders and score of segmentation datasets; who builds on this says what is loaded. The samplers
# and SeededDataset are what a resumed run continues exactly with.
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="SeededSampler"),
    dataset=dict(type="SeededDataset"),
)
val_dataloader = dict(batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
# For test-time augmentation: each image as it is and mirrored.
flips = [
    [
        dict(type="RandomFlip", prob=0.0, direction="horizontal"),
        dict(type="RandomFlip", prob=1.0, direction="horizontal"),
    ],
    [dict(type="LoadAnnotations")],
    [dict(type="PackSegInputs")],
]
