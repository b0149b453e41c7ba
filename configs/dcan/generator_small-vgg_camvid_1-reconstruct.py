# The generator for CamVid, first of two stages: encoder and decoder give images back.
_base_ = ["_base_/generator_small-vgg.py", "_base_/datasets/camvid_images.py"]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            # As many of one as of the other.
            datasets=[
                _base_.day_crops,
                dict(type="RepeatDataset", times=7, dataset=_base_.dusk_crops),
            ]
        )
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=3000, eta_min=1e-5, by_epoch=False)]
train_cfg = dict(max_iters=3000)
