"""What a BlockDrop network chose in one forward pass."""

from dataclasses import dataclass

from torch import Tensor

from dynbackbones.backbones.decisions import Blocks, Decisions, Figure


@dataclass(frozen=True)
class BlockDropDecisions(Decisions):
    """Residual blocks that a BlockDrop network ran.

    Attributes:
        policy: (N, K) bool, the blocks kept.
        probabilities: (N, K) that the policy network gave to keeping each block; None where it
            did not run.
        block_names: ``"res2_block1"`` ..., K of them.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_backbone("blockdrop_resnet18").eval()
        >>> with net.select("first", rate=0.25):
        ...     _ = net(torch.rand(1, 3, 64, 64))
        >>> net.decisions.policy.int()
        tensor([[1, 1, 0, 0, 0, 0, 0, 0]], dtype=torch.int32)
        >>> net.decisions.block_usage, net.decisions.block_names[:2]
        (tensor([0.2500]), ('res2_block1', 'res2_block2'))
    """

    policy: Tensor
    probabilities: Tensor | None
    block_names: tuple[str, ...]

    rate_name = "block_usage"

    @property
    def block_usage(self) -> Tensor:
        """(N,) share of blocks kept."""
        return self.policy.float().mean(dim=1)

    @property
    def rate(self) -> Tensor:
        return self.block_usage

    @property
    def finite(self) -> Tensor | None:
        return None if self.probabilities is None else self.probabilities.isfinite().all(dim=1)

    def figures(self) -> dict[str, Figure]:
        figures = super().figures()
        for name, kept in zip(self.block_names, self.policy.float().unbind(1), strict=True):
            figures[f"block_usage_{name}"] = Figure(kept, "block")
        return figures

    def blocks(self) -> Blocks:
        return Blocks(self.policy, self.block_names)

    def choices(self) -> Tensor:
        return self.policy
