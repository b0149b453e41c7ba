"""Weights in files: read and written safely, named, fitted to a network, converted."""

from dynbackbones.checkpoints.files import check_architecture as check_architecture
from dynbackbones.checkpoints.files import differences as differences
from dynbackbones.checkpoints.files import listed as listed
from dynbackbones.checkpoints.files import load as load
from dynbackbones.checkpoints.files import save as save
from dynbackbones.checkpoints.files import state_dict_of as state_dict_of
