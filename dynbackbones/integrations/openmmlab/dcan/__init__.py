"""DCAN, unsupervised domain adaptation, on mmengine's Runner.

hook           DCANHook, of these parts:
target_images  the images of the target domain
generator      the style generator inside the segmentor (optimizer_group, synthesis)
adaptation     training passes on other images, with aligned features
pictures       what the generator draws
style          training the generator before
"""

from dynbackbones.integrations.openmmlab.dcan.hook import DCANHook as DCANHook
