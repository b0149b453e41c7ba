# mmpretrain's VGG-16, whose outputs are those of its poolings. fc6 and fc7 start anew: mmpretrain's
# weights of them are matrices.
_base_ = "r101_fcn8s.py"
model_imports = [*_base_.model_imports, "mmpretrain.models"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="mmpretrain.VGG",
        depth=16,
        out_indices=(2, 3, 4),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmclassification/v0/vgg/"
            "vgg16_batch256_imagenet_20210208-db26f1a5.pth",
            prefix="backbone.",
        ),
    ),
    decode_head=dict(
        in_channels=[256, 512, 512],
        in_index=[0, 1, 2],
        channels=4096,
        kernel_sizes=(7, 1),
        dropout_ratio=0.5,
    ),
)
