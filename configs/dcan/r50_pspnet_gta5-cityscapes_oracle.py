# PSPNet-ResNet50 trained with the labels of Cityscapes: what adaptation could reach at best.
_base_ = "r50_pspnet_gta5-cityscapes_source.py"
train_dataloader = dict(dataset=dict(dataset=_base_.cityscapes_labelled))
