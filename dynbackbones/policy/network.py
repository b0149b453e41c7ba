"""Policy networks: small ResNets that look at an image once and decide everything.

Their batch norm is plain batch norm whatever the network they decide for uses, since they are
trained from scratch.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from dynbackbones.layers.cifar import CifarBlock
from dynbackbones.layers.convolutions import conv_out_size
from dynbackbones.layers.norm import norm_layer
from dynbackbones.layers.precise import PreciseBuffers
from dynbackbones.layers.residual import BasicBlock, ResidualBlock
from dynbackbones.layers.stem import (
    CIFAR_STEM_CHANNELS,
    IMAGENET_STEM_CHANNELS,
    add_cifar_stem,
    add_imagenet_stem,
    run_stem,
    stem_macs,
)


class PolicyNetwork(PreciseBuffers):
    """Probabilities of K actions for each image (BlockDrop, section 3.2, eq. 2).

    One residual block per stage, then average pooling and a linear layer. See `PolicyResNet10` and
    `PolicyResNet8`.

    Args:
        num_actions: K.
        channels: of the stages; every stage but the first halves the resolution.
        block: of the stages.
        places: edge K of a grid whose cells the actions are about, K^2 of them. Each cell's logit
            is then that of the maps of all stages at its place (hypercolumns), by weights that all
            share, and of a bias of its own; None for the papers' global average.

    Shape:
        (N, in_channels, H, W) to (N, K) float32 in [0, 1], differentiable.

    Attributes:
        threshold: in evaluation an action is taken where its logit exceeds this buffer; 0 takes
            what is more probable than not. Set by `dynbackbones.calibrate`.
    """

    initial_logit = 1.0
    """Of every action at the start: an untrained policy takes all of them (probability 0.73),
    whatever it is shown, so that a network without a trained policy is what it would be without
    any. The paper says nothing; the authors' code starts at 0 on average."""

    precise = ("threshold",)

    def __init__(
        self,
        num_actions: int,
        channels: tuple[int, ...],
        block: type[ResidualBlock],
        places: int | None = None,
    ) -> None:
        super().__init__()
        if num_actions < 1:
            raise ValueError(f"num_actions must be at least 1, got {num_actions}")
        if places is not None and places**2 != num_actions:
            raise ValueError(
                f"num_actions must be {places**2} where places={places}, got {num_actions}"
            )
        self.places = places
        self.num_actions = num_actions
        before = channels[0]
        for index, width in enumerate(channels, start=1):
            stage = block(before, width, stride=1 if index == 1 else 2)
            self.add_module(f"layer{index}", nn.Sequential(stage))
            before = width
        if places is None:
            self.fc = nn.Linear(before, num_actions)
        else:
            self.fc = nn.Linear(sum(channels), 1, bias=False)
            self.place_bias = nn.Parameter(torch.empty(num_actions))
        self.register_buffer("threshold", torch.zeros(()))

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Small random weights would do for images of mean 0 and deviation 1 only: with detectron2's
        # (deviation 60) they would drop blocks at random.
        nn.init.zeros_(self.fc.weight)
        self.reset_bias()

    @property
    def trained(self) -> bool:
        """Whether decisions depend on the image; before the first training step they do not."""
        return bool(self.fc.weight.any())

    def reset_bias(self, logit: float | None = None) -> None:
        """Gives all actions the same chance at the start; see `initial_logit`."""
        bias = self.fc.bias if self.places is None else self.place_bias
        nn.init.constant_(bias, self.initial_logit if logit is None else logit)

    def _stages(self) -> list[nn.Sequential]:
        return [stage for name, stage in self.named_children() if name.startswith("layer")]

    def forward(self, images: Tensor) -> Tensor:
        x, columns = run_stem(self, images), []
        for stage in self._stages():
            x = stage(x)
            if self.places is not None:
                columns.append(adaptive_avg_pool2d(x, self.places))
        if self.places is None:
            logits = self.fc(x.mean(dim=(2, 3)))
        else:
            columns = torch.cat(columns, dim=1).flatten(2).mT
            logits = self.fc(columns).squeeze(2) + self.place_bias
        return torch.sigmoid(logits.float())

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for an image of this size in pixels."""
        total = stem_macs(self, height, width) + self.fc.weight.numel() * (self.places or 1) ** 2
        stride = self.stem_stride
        height, width = conv_out_size(height, stride), conv_out_size(width, stride)
        for (block,) in self._stages():
            total += block.macs(height, width)
            height, width = (conv_out_size(n, block.conv1.stride[0]) for n in (height, width))
        return total


class PolicyResNet10(PolicyNetwork):
    """ResNet-10 for ImageNet-like images; see `PolicyNetwork`."""

    stem_stride = 4

    def __init__(self, num_actions: int, in_channels: int = 3, places: int | None = None) -> None:
        channels = tuple(IMAGENET_STEM_CHANNELS * 2**index for index in range(4))
        super().__init__(num_actions, channels, BasicBlock, places)
        add_imagenet_stem(self, in_channels, norm_layer("BN"))
        self._init_weights()


class PolicyResNet8(PolicyNetwork):
    """ResNet-8 for CIFAR-like images; see `PolicyNetwork`."""

    stem_stride = 1

    def __init__(self, num_actions: int, in_channels: int = 3, places: int | None = None) -> None:
        channels = tuple(CIFAR_STEM_CHANNELS * 2**index for index in range(3))
        super().__init__(num_actions, channels, CifarBlock, places)
        add_cifar_stem(self, in_channels, norm_layer("BN"))
        self._init_weights()
