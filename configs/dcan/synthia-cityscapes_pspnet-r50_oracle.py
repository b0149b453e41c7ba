# PSPNet-ResNet50 trained with the labels of Cityscapes: what adaptation could reach at best.
_base_ = "synthia-cityscapes_pspnet-r50_source.py"
train_dataloader = dict(dataset=dict(dataset={{_base_.cityscapes_labelled}}))
