# Batches of videos, padded to the longest.
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type="SeededSampler"),
    collate_fn=dict(type="pad_videos"),
    dataset=dict(type="SeededDataset"),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pad_videos"),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VideoMetric")
test_evaluator = val_evaluator
