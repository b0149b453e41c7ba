# The demo's two domains, at half size to be quick: labelled scenes by day, the first 300 of the
# training images, and the other 300 by night, without their labels. Scored by night.
# What uses this imports dynbackbones.integrations.openmmlab.datasets.digits and .night.
scale = (128, 96)
night_test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="NightLook"),
    dict(type="Resize", scale=scale),
    # In the images' own size, in which predictions are scored.
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
day_labelled = dict(
    type="DigitsDataset",
    split="train",
    indices=300,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="Resize", scale=scale),
        dict(type="PackSegInputs"),
    ],
)
night = dict(
    type="DigitsDataset",
    split="train",
    indices=-300,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="NightLook"),
        dict(type="Resize", scale=scale),
        dict(type="PackSegInputs"),
    ],
)
night_labelled = dict(
    type="DigitsDataset",
    split="train",
    indices=-300,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="NightLook"),
        dict(type="LoadAnnotations"),
        dict(type="Resize", scale=scale),
        dict(type="PackSegInputs"),
    ],
)
night_val = dict(type="DigitsDataset", split="val", pipeline=night_test_pipeline, test_mode=True)
# For the generator, which works at full size and looks at a few pixels at a time.
day_crops = dict(
    type="DigitsDataset",
    split="train",
    indices=300,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="RandomCrop", crop_size=(64, 64)),
        dict(type="PackSegInputs"),
    ],
)
night_crops = dict(
    type="DigitsDataset",
    split="train",
    indices=-300,
    pipeline=[
        dict(type="LoadImageFromFile"),
        dict(type="NightLook"),
        dict(type="RandomCrop", crop_size=(64, 64)),
        dict(type="PackSegInputs"),
    ],
)
