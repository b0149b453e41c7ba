"""Unsupervised domain adaptation by alignment of channel statistics (DCAN).

Wu, Image and Video Understanding with Constrained Resources (dissertation, 2020), chapter 6, whose
equations are cited; also Wu et al., DCAN, ECCV 2018.
"""

from dynbackbones.adaptation.building import build_generator as build_generator
from dynbackbones.adaptation.decoder import MirroredDecoder as MirroredDecoder
from dynbackbones.adaptation.encoder import VGGEncoder as VGGEncoder
from dynbackbones.adaptation.encoder import build_encoder as build_encoder
from dynbackbones.adaptation.feature_alignment import aligned as aligned
from dynbackbones.adaptation.feature_alignment import find_module as find_module
from dynbackbones.adaptation.feature_alignment import target_statistics as target_statistics
from dynbackbones.adaptation.generator import StyleGenerator as StyleGenerator
from dynbackbones.adaptation.generator import Synthesis as Synthesis
from dynbackbones.adaptation.pixels import PixelFormat as PixelFormat
from dynbackbones.adaptation.weights import load_weights as load_weights
