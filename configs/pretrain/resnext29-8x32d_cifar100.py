# ResNeXt-29 (8x32d) on CIFAR-100, the baseline of sar_resnext29-8x32d_cifar100.py: 2.06 GMACs.
_base_ = "sar_resnext29-8x32d_cifar100.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="CifarResNet",
        depth=29,
        cardinality=8,
        width_per_group=32,
        out_indices=(2,),
    ),
)
