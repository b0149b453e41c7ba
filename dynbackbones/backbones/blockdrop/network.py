"""What BlockDrop networks share: decide once, then run the blocks that each image keeps.

Wu et al., BlockDrop: Dynamic Inference Paths in Residual Networks, CVPR 2018.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dynbackbones.backbones.base import remember
from dynbackbones.backbones.blockdrop.deciding import DecidesFirst, Size
from dynbackbones.backbones.blockdrop.decisions import BlockDropDecisions
from dynbackbones.backbones.blockdrop.selection import BlockSelection
from dynbackbones.backbones.blockdrop.stage import DroppableStage, blocks_to_synchronise
from dynbackbones.backbones.decisions import Batch
from dynbackbones.backbones.resnet import feature_size
from dynbackbones.kernels.blocks import can_run
from dynbackbones.layers.stem import run_stem, stem_macs
from dynbackbones.layers.tracing import is_traced
from dynbackbones.policy.actions import check_actions, greedy_actions


class BlockDropBackbone(DecidesFirst):
    """What `BlockDropResNet` and `BlockDropCifarResNet` share.

    A forward pass keeps the blocks whose probability exceeds 0.5, in training too: what samples
    actions for the policy gradient calls `policy_probabilities` and `run_blocks`.

    Args:
        in_channels: channels of the images.
        policy_training: ``"frozen"`` keeps the policy network in evaluation mode and without
            gradients; ``"reinforce"`` lets it learn, by whatever calls `policy_probabilities`.
        execution: see `DynamicBackbone`; ``"auto"`` is ``"sparse"``, which never computes more
            than ``"masked"``, but for networks that are exported or compiled (`is_traced`). In
            training mode see `DroppableStage`.

    Attributes:
        policy: the policy network.
        num_blocks: K, the residual blocks that can be dropped, which are all.
    """

    holds_resnet = True

    def __init__(self, in_channels: int, policy_training: str, execution: str) -> None:
        super().__init__(in_channels, policy_training, execution)
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

    def aim(self) -> str:
        way = "frozen" if self.policy_training == "frozen" else "learned from rewards"
        return f"which of {self.num_blocks} blocks run for each image, policy {way}"

    def make_selection(
        self, kind: str | Tensor | Sequence, rate: float, seed: int
    ) -> BlockSelection:
        return self._checked(BlockSelection(kind, rate, seed))

    def _checked(self, selection) -> BlockSelection | None:
        if selection is None:
            return None
        if not isinstance(selection, BlockSelection):
            selection = BlockSelection(selection)
        selection.check(self.num_blocks)
        return selection

    def forward(
        self, images: Tensor, image_sizes: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        batch = self._check_inputs(images, image_sizes)
        learning = self.policy_training == "reinforce" and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning):
            probabilities = self._probabilities(images, batch.sizes)
        selection = self.selection
        if selection is None:
            actions = greedy_actions(probabilities, self.policy.threshold.sigmoid())
        else:
            actions = selection.policy(len(images), self.block_counts).to(images.device)
        features = self._run_stages(images, actions, probabilities if learning else None)
        self.decisions = self._describe(batch, actions, probabilities.detach())
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
        batch = self._check_inputs(images, image_sizes)
        check_actions(actions, (len(images), self.num_blocks))
        actions = actions.bool()
        features = self._run_stages(images, actions, None)
        self.decisions = self._describe(batch, actions, None)
        return features

    @torch.no_grad()
    def run_alternatives(
        self, images: Tensor, first: Tensor, second: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The features with either of two policies, for a network in evaluation mode.

        An image passes once until its policies differ. `decisions` are those of ``first``.

        Args:
            images: (N, in_channels, H, W), as for `forward`.
            first, second: (N, K) bool.

        Returns:
            Features of N + M rows: those of all images with ``first``, then those with ``second``
            of the M images for which it differs; and (M,) which images these are.
        """
        batch = self._check_inputs(images, None)
        for actions in (first, second):
            check_actions(actions, (len(images), self.num_blocks))
        keep, other = first.cpu().bool(), second.cpu().bool()
        # Index of the first block whose actions differ; K where none does.
        ends = torch.ones(len(images), 1, dtype=torch.bool)
        forks = torch.cat([keep != other, ends], dim=1).int().argmax(dim=1)
        sparse, features = self._runs_sparse, {}
        x, rows, begin = run_stem(self, images), torch.arange(0), 0
        for name, stage in self.stages().items():
            end = begin + len(stage)
            # All images that part ways in this stage do so together, at its first fork.
            new = ((forks >= begin) & (forks < end)).nonzero().flatten()
            split = int(forks[new].min()) if len(new) else end
            x = stage(x, keep[:, begin:split], sparse)
            if len(new):
                x = torch.cat([x, x[new.to(x.device)]])
                keep, rows = torch.cat([keep, other[new]]), torch.cat([rows, new])
                x = stage(x, keep[:, split:end], sparse, start=split - begin)
            features[name], begin = x, end
        self.decisions = self._describe(batch, first.bool(), None)
        return features, rows.to(images.device)

    def _run_stages(
        self, images: Tensor, actions: Tensor, probabilities: Tensor | None
    ) -> dict[str, Tensor]:
        x = run_stem(self, images)
        if probabilities is not None and self.training:
            # Decisions have no gradient; a policy network without any would stop DDP.
            x = x + 0 * probabilities.sum().to(x.dtype)
        stages = list(self.stages().items())
        if self._runs_kernels(x):
            features = {}
            for (name, stage), keep in zip(
                stages, actions.split(self.block_counts, dim=1), strict=True
            ):
                x = features[name] = stage.run_on_device(x, keep)
            return features
        sparse = self.training or self._runs_sparse
        # One transfer from the device for all blocks.
        keep = actions.cpu() if sparse else actions
        needed = blocks_to_synchronise([stage for _, stage in stages], keep, images.device)
        keep, needed = keep.split(self.block_counts, dim=1), needed.split(self.block_counts)
        features = {}
        for index, (name, stage) in enumerate(stages):
            x = features[name] = stage(x, keep[index], sparse, needed[index])
        return features

    def _runs_kernels(self, x: Tensor) -> bool:
        blocks = (block for stage in self.stages().values() for block in stage)
        return not self.training and self.execution != "masked" and can_run(blocks, x)

    @property
    def _runs_sparse(self) -> bool:
        return self.execution == "sparse" or (self.execution == "auto" and not is_traced())

    def _describe(
        self, batch: Batch, actions: Tensor, probabilities: Tensor | None
    ) -> BlockDropDecisions:
        names = self.block_names
        return BlockDropDecisions(batch, self._count_macs, actions, probabilities, names)

    def _count_macs(self, decisions: BlockDropDecisions) -> Tensor:
        costs = [self._costs_of(size) for size in decisions.image_sizes]
        macs = torch.tensor([static for static, _ in costs], dtype=torch.float64)
        macs += (decisions.policy.cpu() * torch.stack([own for _, own in costs])).sum(dim=1)
        if decisions.probabilities is not None:
            policy = [self._policy_macs(size) for size in decisions.image_sizes]
            macs += torch.tensor(policy, dtype=torch.float64)
        return macs

    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """Multiply-accumulates for an image of this size in pixels.

        Convolutions and linear layers count, those of the policy network too. BlockDrop's tables
        count a multiply-accumulate as two operations.

        Args:
            height, width: of the image.
            share: of the residual branches' cost, in [0, 1].
        """
        static, blocks = self._costs_of((height, width))
        return static + share * float(blocks.sum()) + self._policy_macs((height, width))

    def _costs_of(self, size: Size) -> tuple[float, Tensor]:
        """Multiply-accumulates that always run, and (K,) float64 of each residual branch."""
        return remember(self._costs, size, self._count)

    def _count(self, size: Size) -> tuple[float, Tensor]:
        static, residual = stem_macs(self, *size), []
        current = feature_size(size, self.feature_info["res2"].stride)
        for name, stage in self.stages().items():
            for block in stage:
                static += block.shortcut_macs(*current)
                residual.append(block.residual_macs(*current))
                current = feature_size(size, self.feature_info[name].stride)
        return float(static), torch.tensor(residual, dtype=torch.float64)
