"""Building blocks without a notion of a network."""

from dynbackbones.layers.alignment import AdaIN as AdaIN
from dynbackbones.layers.alignment import ChannelStatistics as ChannelStatistics
from dynbackbones.layers.alignment import adain as adain
from dynbackbones.layers.alignment import align_channels as align_channels
from dynbackbones.layers.alignment import assign_targets as assign_targets
from dynbackbones.layers.alignment import channel_statistics as channel_statistics
from dynbackbones.layers.alignment import gram_matrix as gram_matrix
from dynbackbones.layers.gumbel import gumbel_select as gumbel_select
from dynbackbones.layers.norm import norm_layer as norm_layer
from dynbackbones.layers.regions import RegionGrid as RegionGrid
from dynbackbones.layers.regions import RegionSelector as RegionSelector
from dynbackbones.layers.residual import BasicBlock as BasicBlock
from dynbackbones.layers.residual import Bottleneck as Bottleneck
from dynbackbones.layers.residual import ResidualBlock as ResidualBlock
from dynbackbones.layers.sparse import SelectedPixels as SelectedPixels
from dynbackbones.layers.sparse import sparse_forward as sparse_forward
