# The generator for CamVid, first of two stages: encoder and decoder give images back.
_base_ = ["_base_/generator.py", "_base_/datasets/camvid_images.py"]
model = dict(
    stage="reconstruct",
    generator=dict(
        encoder="small_vgg",
        encoder_weights="random",
        # Few layers, so that little is lost and the training is short.
        channels=(16, 32, 64, 192),
        convolutions=(1, 1, 1, 1),
    ),
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type="ConcatDataset",
            # As many of one as of the other.
            datasets=[
                {{_base_.day_crops}},
                dict(type="RepeatDataset", times=7, dataset={{_base_.dusk_crops}}),
            ],
        )
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=3000, eta_min=1e-5, by_epoch=False)]
train_cfg = dict(max_iters=3000)
default_hooks = dict(checkpoint=dict(interval=500))
