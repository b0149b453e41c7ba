# The demo's two domains, at half size to be quick: labelled scenes by day, the first 300 of the
# training images, and the other 300 by night, without their labels. Scored by night.
# What uses this imports dynbackbones.integrations.openmmlab.digits and .night.
scale = (128, 96)
day_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale),
    dict(type="PackSegInputs"),
]
night_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="NightLook"),
    dict(type="Resize", scale=scale),
    dict(type="PackSegInputs"),
]
day_labelled_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="Resize", scale=scale),
    dict(type="PackSegInputs"),
]
night_labelled_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="NightLook"),
    dict(type="LoadAnnotations"),
    dict(type="Resize", scale=scale),
    dict(type="PackSegInputs"),
]
# Labels stay in the images' own size, in which predictions are scored.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="NightLook"),
    dict(type="Resize", scale=scale),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
day = dict(type="DigitsDataset", split="train", indices=300, pipeline=day_labelled_pipeline)
night = dict(type="DigitsDataset", split="train", indices=-300, pipeline=night_pipeline)
night_val = dict(type="DigitsDataset", split="val", pipeline=test_pipeline, test_mode=True)
