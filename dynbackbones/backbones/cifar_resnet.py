"""The ResNets for CIFAR: three stages of `CifarBlock`."""

from torch import nn

from dynbackbones.backbones.base import FeatureInfo
from dynbackbones.backbones.resnet import StaticResNet, check_choice, init_weights
from dynbackbones.layers.cifar import CifarBlock
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import set_activation_checkpointing
from dynbackbones.layers.stem import CIFAR_STEM_CHANNELS, add_cifar_stem

PAPER_DEPTHS = (20, 32, 56, 110)
"""Of He et al.; dynamic networks come in these, since smaller ones have little to leave out."""
DEPTHS = (8, 14, *PAPER_DEPTHS)


def add_cifar_stages(
    net: nn.Module,
    depth: int,
    norm: NormLayer,
    stage: type[nn.Sequential] = nn.Sequential,
    width: float = 1,
) -> dict[str, FeatureInfo]:
    """Adds ``layer1`` to ``layer3`` of a ResNet for CIFAR to a module.

    Args:
        net: the module.
        depth: 6 n + 2 for n blocks in each stage.
        norm: constructor of the norm layers.
        stage: class of the stages.
        width: factor of all channels but the stem's.

    Returns:
        What the features are.

    Raises:
        ValueError: the width is not positive.
    """
    if not width > 0:
        raise ValueError(f"width must be positive, got {width!r}")
    infos, before = {}, CIFAR_STEM_CHANNELS
    for index in range(3):
        channels = int(CIFAR_STEM_CHANNELS * 2**index * width)
        blocks = [
            CifarBlock(
                before if number == 0 else channels,
                channels,
                stride=2 if number == 0 and index else 1,
                norm=norm,
            )
            for number in range((depth - 2) // 6)
        ]
        net.add_module(f"layer{index + 1}", stage(*blocks))
        infos[f"res{index + 2}"] = FeatureInfo(channels, 2**index, f"layer{index + 1}")
        before = channels
    return infos


class CifarResNet(StaticResNet):
    """ResNet for CIFAR (He et al., 2016, section 4.2) without classifier.

    The shortcuts have no parameters; see `CifarBlock`. Features are ``res2``, ``res3`` and
    ``res4`` with 16, 32 and 64 channels, times ``width``, at strides 1, 2 and 4.

    Args:
        depth: 8, 14, 20, 32, 56 or 110.
        in_channels: channels of the images.
        width: factor of all channels but the stem's; 2 is "ResNet32x2" of SAR's table III.
        norm, freeze_at, activation_checkpointing: see `ResNet`.

    Raises:
        ValueError: an option has a value that is not known.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.CifarResNet(20)
        >>> tuple(net(torch.rand(2, 3, 32, 32))["res4"].shape)
        (2, 64, 8, 8)
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        width: float = 1,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels)
        check_choice("depth", depth, DEPTHS)
        self.title = f"CIFAR-ResNet-{depth}"
        make_norm = norm_layer(norm)
        add_cifar_stem(self, in_channels, make_norm)
        self.feature_info = add_cifar_stages(self, depth, make_norm, width=width)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.freeze(freeze_at)
