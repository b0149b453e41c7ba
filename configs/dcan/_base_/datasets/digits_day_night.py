# The demo's two domains, at half size to be quick: labelled scenes by day, the first 300 of the
# training images, and the other 300 by night, without their labels. Scored by night.
# What uses this imports dynbackbones.integrations.openmmlab.datasets.digits and .night.
def digits(*steps, split="train", **options):
    pipeline = [dict(type="LoadImageFromFile"), *steps, dict(type="PackSegInputs")]
    return dict(type="DigitsDataset", split=split, pipeline=pipeline, **options)


resize = dict(type="Resize", scale=(128, 96))
darken = dict(type="NightLook")
labels = dict(type="LoadAnnotations")
# For the generator, which works at full size and looks at a few pixels at a time.
crop = dict(type="RandomCrop", crop_size=(64, 64))

day_labelled = digits(labels, resize, indices=300)
night = digits(darken, resize, indices=-300)
night_labelled = digits(darken, labels, resize, indices=-300)
# Labels in the images' own size, in which predictions are scored.
night_val = digits(darken, resize, labels, split="val", test_mode=True)
day_crops = digits(crop, indices=300)
night_crops = digits(darken, crop, indices=-300)
del resize, darken, labels, crop
