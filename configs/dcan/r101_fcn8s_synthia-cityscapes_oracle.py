# FCN8s-ResNet101 trained with the labels of Cityscapes: what adaptation could reach at best.
_base_ = "r101_fcn8s_synthia-cityscapes_source.py"
train_dataloader = dict(dataset=dict(dataset=_base_.cityscapes_labelled))
