"""DCAN, unsupervised domain adaptation, on mmengine's Runner."""

from dynbackbones.integrations.openmmlab.dcan.hook import DCANHook as DCANHook
