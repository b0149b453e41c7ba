# Second stage: the decoder learns to draw images in each other's style (eq. 6.2).
_base_ = "generator_small-vgg_digits_1-reconstruct.py"
model = dict(
    stage="style",
    generator=dict(
        encoder_weights=None,
        weights="work_dirs/generator_small-vgg_digits_1-reconstruct/iter_600.pth",
    ),
)
