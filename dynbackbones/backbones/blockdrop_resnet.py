"""BlockDrop-ResNet: a policy network looks once and chooses the residual blocks that run.

Wu et al., BlockDrop: Dynamic Inference Paths in Residual Networks, CVPR 2018.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.backbones.base import DynamicBackbone
from dynbackbones.backbones.block_execution import DroppableStage
from dynbackbones.backbones.block_selection import BlockSelection
from dynbackbones.backbones.cifar_resnet import DEPTHS as CIFAR_DEPTHS
from dynbackbones.backbones.cifar_resnet import add_cifar_stages
from dynbackbones.backbones.decisions import BlockDropDecisions
from dynbackbones.backbones.resnet import (
    LAYOUTS,
    OUTPUT_STRIDES,
    check_choice,
    feature_size,
    init_weights,
)
from dynbackbones.backbones.stages import add_stages
from dynbackbones.layers.norm import NormLayer, norm_layer
from dynbackbones.layers.residual import strided
from dynbackbones.layers.stem import add_cifar_stem, add_imagenet_stem, run_stem, stem_macs
from dynbackbones.policy.actions import check_actions, greedy_actions
from dynbackbones.policy.network import PolicyNetwork, PolicyResNet8, PolicyResNet10

POLICY_TRAININGS = ("frozen", "reinforce")
COST_CACHE_SIZE = 1024

Size = tuple[int, int]


class BlockDropBackbone(DynamicBackbone):
    """What `BlockDropResNet` and `BlockDropCifarResNet` share.

    A forward pass keeps the blocks whose probability exceeds 0.5, in training too: what samples
    actions for the policy gradient calls `policy_probabilities` and `run_blocks`.

    Args:
        in_channels: channels of the images.
        policy_training: ``"frozen"`` keeps the policy network in evaluation mode and without
            gradients; ``"reinforce"`` lets it learn, by whatever calls `policy_probabilities`.
        execution: see `DynamicBackbone`; ``"auto"`` is ``"sparse"``, which never computes more
            than ``"masked"``. In training mode see `DroppableStage`.

    Attributes:
        policy: the policy network.
        num_blocks: K, the residual blocks that can be dropped, which are all.
    """

    policy: PolicyNetwork

    def __init__(self, in_channels: int, policy_training: str, execution: str) -> None:
        super().__init__(in_channels, execution)
        check_choice("policy_training", policy_training, POLICY_TRAININGS)
        self.policy_training = policy_training
        self._selection: BlockSelection | None = None
        self._costs: dict[Size, tuple[float, Tensor]] = {}

    @property
    def block_counts(self) -> list[int]:
        """Number of blocks of each stage."""
        return [len(stage) for stage in self.stages().values()]

    @property
    def num_blocks(self) -> int:
        return sum(self.block_counts)

    @property
    def block_names(self) -> tuple[str, ...]:
        """``"res2_block1"`` and so on, in the order of a policy's entries."""
        return tuple(
            f"{name}_block{number}"
            for name, stage in self.stages().items()
            for number in range(1, len(stage) + 1)
        )

    def stages(self) -> dict[str, DroppableStage]:
        """The stages by the name of the feature in which they end."""
        return {name: self.get_submodule(info.module) for name, info in self.feature_info.items()}

    def policy_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the policy network, for a learning rate of their own."""
        yield from self.policy.parameters()

    def _frozen(self) -> Iterator[nn.Module]:
        yield from super()._frozen()
        if self.policy_training == "frozen":
            yield self.policy

    @property
    def selection(self) -> BlockSelection | None:
        """The override of the decisions that holds at present."""
        return self._selection

    @contextmanager
    def select(
        self, kind: str | Tensor | Sequence, *, rate: float = 0.5, seed: int = 0
    ) -> Iterator[None]:
        """Overrides the decisions of forward passes inside; see `BlockSelection`.

        The policy network still runs, so that time and MACs are those of a real decision.
        """
        before, self._selection = self._selection, self._checked(BlockSelection(kind, rate, seed))
        try:
            yield
        finally:
            self._selection = before

    def _checked(self, selection) -> BlockSelection | None:
        if selection is None:
            return None
        if not isinstance(selection, BlockSelection):
            selection = BlockSelection(selection)
        selection.check(self.num_blocks)
        return selection

    def policy_probabilities(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """The policy network's probability of each block to be kept: (N, K), differentiable.

        Args:
            images: (N, in_channels, H, W), as for `forward`.
            image_sizes: (height, width) of each image without padding, which the policy network
                does not see; sizes given by `set_image_sizes` hold here too, and stay for the
                forward pass.
        """
        pending = self._next_image_sizes
        try:
            return self._probabilities(images, self._check_inputs(images, image_sizes))
        finally:
            self._next_image_sizes = pending

    def _probabilities(self, images: Tensor, sizes: list[Size] | None) -> Tensor:
        if sizes is None or set(sizes) == {tuple(images.shape[-2:])}:
            return self.policy(self._policy_view(images))
        # Images that come out at the same size go through the policy network together.
        views: dict[Size, tuple[list[int], list[Tensor]]] = {}
        for size in dict.fromkeys(sizes):
            members = [index for index, other in enumerate(sizes) if other == size]
            view = self._policy_view(images[members, :, : size[0], : size[1]])
            order, parts = views.setdefault(tuple(view.shape[-2:]), ([], []))
            order += members
            parts.append(view)
        order = [index for members, _ in views.values() for index in members]
        results = torch.cat([self.policy(torch.cat(parts)) for _, parts in views.values()])
        return results[torch.tensor(order, device=results.device).argsort()]

    @abstractmethod
    def _policy_view(self, images: Tensor) -> Tensor:
        """What the policy network sees of images without padding."""

    @abstractmethod
    def policy_view_size(self, height: int, width: int) -> Size:
        """Size of what the policy network sees of an image of this size in pixels."""

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        sizes = self._check_inputs(images, image_sizes)
        learning = self.policy_training == "reinforce" and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning):
            probabilities = self._probabilities(images, sizes)
        if self._selection is None:
            actions = greedy_actions(probabilities)
        else:
            actions = self._selection.policy(len(images), self.block_counts).to(images.device)
        features = self._run_stages(images, actions, probabilities if learning else None)
        self.decisions = self._describe(images, sizes, actions, probabilities.detach())
        return features

    def run_blocks(
        self,
        images: Tensor,
        actions: Tensor,
        image_sizes: Sequence[Sequence[int]] | None = None,
    ) -> dict[str, Tensor]:
        """The features with given actions; the policy network does not run (nor counts in MACs).

        Args:
            images: (N, in_channels, H, W), as for `forward`.
            actions: (N, K) of 0 and 1; 1 keeps a block.
            image_sizes: as for `forward`.

        Raises:
            ValueError: the actions have another shape or other values.
        """
        sizes = self._check_inputs(images, image_sizes)
        check_actions(actions, (len(images), self.num_blocks))
        actions = actions.bool()
        features = self._run_stages(images, actions, None)
        self.decisions = self._describe(images, sizes, actions, None)
        return features

    def _run_stages(
        self, images: Tensor, actions: Tensor, probabilities: Tensor | None
    ) -> dict[str, Tensor]:
        x = run_stem(self, images)
        if probabilities is not None and self.training:
            # Decisions have no gradient; a policy network without any would stop DDP.
            x = x + 0 * probabilities.sum().to(x.dtype)
        sparse = self.execution != "masked"
        # One transfer from the device for all blocks.
        keep = actions.cpu().split(self.block_counts, dim=1)
        features = {}
        for (name, stage), kept in zip(self.stages().items(), keep, strict=True):
            x = features[name] = stage(x, kept, sparse)
        return features

    def _describe(
        self,
        images: Tensor,
        sizes: list[Size] | None,
        actions: Tensor,
        probabilities: Tensor | None,
    ) -> BlockDropDecisions:
        sizes = sizes or [(int(images.shape[-2]), int(images.shape[-1]))] * len(images)
        costs = [self._costs_of(size) for size in sizes]
        macs = torch.tensor([static for static, _ in costs], dtype=torch.float64)
        macs += (actions.cpu() * torch.stack([blocks for _, blocks in costs])).sum(dim=1)
        if probabilities is not None:
            macs += torch.tensor([self._policy_macs(size) for size in sizes], dtype=torch.float64)
        return BlockDropDecisions(sizes, macs, actions, probabilities, self.block_names)

    def macs(self, height: int, width: int, usage: float = 1.0) -> float:
        """Multiply-accumulates for an image of this size in pixels.

        Convolutions and linear layers count, those of the policy network too. BlockDrop's tables
        count a multiply-accumulate as two operations.

        Args:
            height, width: of the image.
            usage: share of the residual branches' cost, in [0, 1].
        """
        static, blocks = self._costs_of((height, width))
        return static + usage * float(blocks.sum()) + self._policy_macs((height, width))

    def _policy_macs(self, size: Size) -> int:
        return self.policy.macs(*self.policy_view_size(*size))

    def _costs_of(self, size: Size) -> tuple[float, Tensor]:
        """Multiply-accumulates that always run, and (K,) float64 of each residual branch."""
        if size not in self._costs:
            if len(self._costs) >= COST_CACHE_SIZE:
                self._costs.clear()
            self._costs[size] = self._count(size)
        return self._costs[size]

    def _count(self, size: Size) -> tuple[float, Tensor]:
        static, residual = stem_macs(self, *size), []
        current = feature_size(size, self.feature_info["res2"].stride)
        for name, stage in self.stages().items():
            for block in stage:
                static += block.shortcut_macs(*current)
                residual.append(block.residual_macs(*current))
                current = feature_size(size, self.feature_info[name].stride)
        return float(static), torch.tensor(residual, dtype=torch.float64)


class BlockDropResNet(BlockDropBackbone):
    """BlockDrop-ResNet-18, -34, -50 or -101 without classifier.

    Apart from ``policy.*`` the parameters are a ResNet's, with torchvision's names.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: channels of the images.
        output_stride: 32, 16 or 8; see `ResNet`.
        norm: of the ResNet: ``"BN"``, ``"SyncBN"``, ``"FrozenBN"`` or a constructor; see
            `norm_layer`. The policy network always has plain batch norm.
        freeze_at: see `Backbone.freeze`.
        stride_in_1x1: see `ResidualBlock`.
        policy_size: short side in pixels that the policy network's image is resized to before it
            is halved, so that 224 gives the paper's 112; None only halves it.
        policy_training: see `BlockDropBackbone`.
        execution: see `BlockDropBackbone`.
        selection: override of the decisions, as for `select`.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        output_stride: int = 32,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        stride_in_1x1: bool = False,
        policy_size: int | None = 224,
        policy_training: str = "frozen",
        execution: str = "auto",
        selection: "str | Tensor | Sequence | BlockSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, policy_training, execution)
        check_choice("depth", depth, LAYOUTS)
        check_choice("output_stride", output_stride, OUTPUT_STRIDES)
        if policy_size is not None and not (isinstance(policy_size, int) and policy_size >= 1):
            raise ValueError(f"policy_size must be a positive integer or None, got {policy_size!r}")
        self.policy_size = policy_size
        make_norm = norm_layer(norm)
        add_imagenet_stem(self, in_channels, make_norm)
        self.feature_info = add_stages(
            self,
            depth,
            output_stride=output_stride,
            norm=make_norm,
            stride_in_1x1=stride_in_1x1,
            stage=DroppableStage,
        )
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
        return strided(height, 2), strided(width, 2)

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
        norm: of the ResNet; see `norm_layer`. The policy network always has plain batch norm.
        freeze_at: see `Backbone.freeze`.
        policy_training: see `BlockDropBackbone`.
        execution: see `BlockDropBackbone`.
        selection: override of the decisions, as for `select`.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        norm: str | NormLayer = "BN",
        freeze_at: int = 0,
        policy_training: str = "frozen",
        execution: str = "auto",
        selection: "str | Tensor | Sequence | BlockSelection | None" = None,
    ) -> None:
        super().__init__(in_channels, policy_training, execution)
        check_choice("depth", depth, CIFAR_DEPTHS)
        make_norm = norm_layer(norm)
        add_cifar_stem(self, in_channels, make_norm)
        self.feature_info = add_cifar_stages(self, depth, make_norm, DroppableStage)
        init_weights(self)
        self.policy = PolicyResNet8(self.num_blocks, in_channels)
        self._selection = self._checked(selection)
        self.freeze(freeze_at)

    def policy_view_size(self, height: int, width: int) -> Size:
        return height, width

    def _policy_view(self, images: Tensor) -> Tensor:
        return images
