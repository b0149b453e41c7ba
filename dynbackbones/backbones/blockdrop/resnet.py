"""BlockDrop-ResNet: a policy network looks once and chooses the residual blocks that run."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from dynbackbones.backbones.blockdrop.network import BlockDropBackbone, Size
from dynbackbones.backbones.blockdrop.selection import BlockSelection
from dynbackbones.backbones.blockdrop.stage import DroppableStage
from dynbackbones.backbones.cifar_resnet import PAPER_DEPTHS, add_cifar_stages
from dynbackbones.backbones.resnet import (
    LAYOUTS,
    OUTPUT_STRIDES,
    add_stages,
    check_choice,
    init_weights,
)
from dynbackbones.layers.convolutions import conv_out_size
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import set_activation_checkpointing
from dynbackbones.layers.stem import add_cifar_stem, add_imagenet_stem
from dynbackbones.policy.network import PolicyResNet8, PolicyResNet10


class BlockDropResNet(BlockDropBackbone):
    """BlockDrop-ResNet-18, -34, -50 or -101 without classifier (BlockDrop, sections 3 and 4.1).

    Apart from ``policy.*`` the parameters are a ResNet's, with torchvision's names.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        output_stride: 32, 16 or 8; the lower two trade the strides of the last stages for
            dilation.
        norm: of the ResNet: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` or a constructor; see
            `norm_layer`. The policy network always has plain batch norm.
        freeze_at: number of leading parts to freeze: 0 none, 1 the stem, 2 also stage 1 (res2), and
            so on.
        deep_stem: three 3x3 convolutions in place of the first 7x7 one, as ResNetV1c has them.
        activation_checkpointing: compute the blocks' activations a second time in the backward
            pass instead of keeping them; the policy network's are kept.
        stride_in_1x1: put a `Bottleneck`'s stride into its first 1x1 convolution, as weights
            converted from Caffe expect.
        dilate_first: dilate the first block of a stage like the others, as detectron2 does.
        policy_size: short side in pixels that the policy network's image is resized to before it
            is halved, so that 224 gives the paper's 112; None only halves it.
        policy_training: ``"frozen"`` keeps the policy network as it is; ``"reinforce"`` lets it
            learn by reward, see `dynbackbones.training.policy`.
        execution: ``"sparse"`` skips what is dropped, ``"masked"`` computes all and chooses,
            ``"auto"`` is sparse but for networks that are exported or compiled.
        selection: override of the decisions, as for `select`.

    Raises:
        ValueError: an option has a wrong value.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.BlockDropResNet(18).eval()
        >>> with net.select([1, 1, 1, 0, 1, 0, 1, 0]):  # 1 runs a block
        ...     features = net(torch.rand(2, 3, 64, 64))
        >>> net.decisions.block_usage
        tensor([0.6250, 0.6250])
        >>> plain = dynbackbones.ResNet(18).state_dict()
        >>> net.state_dict().keys() - net.decision_keys() == plain.keys()
        True
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        stride_in_1x1: bool = False,
        dilate_first: bool = False,
        deep_stem: bool = False,
        policy_size: int | None = 224,
        policy_training: str = "frozen",
        execution: str = "auto",
        selection: "str | Tensor | Sequence | BlockSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, policy_training, execution)
        check_choice("depth", depth, LAYOUTS)
        self.title = f"BlockDrop-ResNet-{depth}"
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        if policy_size is not None and not (isinstance(policy_size, int) and policy_size >= 1):
            raise ValueError(f"policy_size must be a positive integer or None, got {policy_size!r}")
        self.policy_size = policy_size
        make_norm = norm_layer(norm)
        add_imagenet_stem(self, in_channels, make_norm, deep_stem)
        self.feature_info = add_stages(
            self,
            depth,
            output_stride=output_stride,
            norm=make_norm,
            stride_in_1x1=stride_in_1x1,
            dilate_first=dilate_first,
            stage=DroppableStage,
        )
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.policy = PolicyResNet10(self.num_blocks, in_channels)
        self._selection = self._checked(selection)
        self.freeze(freeze_at)

    def _resized(self, height: int, width: int) -> Size:
        if self.policy_size is None:
            return height, width
        scale = self.policy_size / min(height, width)
        return round(height * scale), round(width * scale)

    def policy_view_size(self, height: int, width: int) -> Size:
        height, width = self._resized(height, width)
        return conv_out_size(height, 2), conv_out_size(width, 2)

    def _policy_view(self, images: Tensor) -> Tensor:
        size = tuple(int(n) for n in images.shape[-2:])
        resized = self._resized(*size)
        if resized != size:
            # Not all devices resize half precision.
            images = F.interpolate(
                images.float(), resized, mode="bilinear", align_corners=False, antialias=True
            ).to(images.dtype)
        return F.avg_pool2d(images, 2, ceil_mode=True)


class BlockDropCifarResNet(BlockDropBackbone):
    """BlockDrop on a `CifarResNet`; the policy network sees the image as it is.

    Args:
        depth: 20, 32, 56 or 110.
        in_channels: channels of the images.
        norm: see `BlockDropResNet`.
        freeze_at, activation_checkpointing, policy_training, execution, selection: see
            `BlockDropResNet`.

    Raises:
        ValueError: an option has a wrong value.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.BlockDropCifarResNet(20, selection="none").eval()
        >>> _ = net(torch.rand(1, 3, 32, 32))
        >>> net.num_blocks, net.decisions.block_usage
        (9, tensor([0.]))
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        activation_checkpointing: bool = False,
        policy_training: str = "frozen",
        execution: str = "auto",
        selection: "str | Tensor | Sequence | BlockSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, policy_training, execution)
        check_choice("depth", depth, PAPER_DEPTHS)
        self.title = f"BlockDrop-CIFAR-ResNet-{depth}"
        make_norm = norm_layer(norm)
        add_cifar_stem(self, in_channels, make_norm)
        self.feature_info = add_cifar_stages(self, depth, make_norm, DroppableStage)
        if activation_checkpointing:
            set_activation_checkpointing(self)
        init_weights(self)
        self.policy = PolicyResNet8(self.num_blocks, in_channels)
        self._selection = self._checked(selection)
        self.freeze(freeze_at)

    def policy_view_size(self, height: int, width: int) -> Size:
        return height, width

    def _policy_view(self, images: Tensor) -> Tensor:
        return images
