"""Weights in files: read and written safely, named, fitted to a network, converted."""

from dynbackbones.checkpoints.download import cached_path as cached_path
from dynbackbones.checkpoints.download import local_file as local_file
from dynbackbones.checkpoints.files import check_architecture as check_architecture
from dynbackbones.checkpoints.files import differences as differences
from dynbackbones.checkpoints.files import listed as listed
from dynbackbones.checkpoints.files import save as save
from dynbackbones.checkpoints.finding import state_dict_of as state_dict_of
from dynbackbones.checkpoints.fit import LoadReport as LoadReport
from dynbackbones.checkpoints.loading import decision_keys as decision_keys
from dynbackbones.checkpoints.loading import load_state as load_state
from dynbackbones.checkpoints.loading import load_weights as load_weights
from dynbackbones.checkpoints.loading import read_weights as read_weights
from dynbackbones.checkpoints.reading import load as load
