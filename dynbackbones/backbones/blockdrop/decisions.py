"""What a BlockDrop network chose in one forward pass."""

from dataclasses import dataclass

from torch import Tensor

from dynbackbones.backbones.decisions import Decisions


@dataclass(frozen=True)
class BlockDropDecisions(Decisions):
    """Residual blocks that a BlockDrop network ran.

    Attributes:
        policy: (N, K) bool, the blocks kept.
        probabilities: (N, K) that the policy network gave to keeping each block; None where it
            did not run.
        block_names: ``"res2_block1"`` ..., K of them.
    """

    policy: Tensor
    probabilities: Tensor | None
    block_names: tuple[str, ...]

    @property
    def block_usage(self) -> Tensor:
        """(N,) share of blocks kept."""
        return self.policy.float().mean(dim=1)

    def summary(self, per_block: bool = False) -> dict[str, Tensor]:
        values = {**super().summary(per_block), "block_usage": self.block_usage}
        if per_block:
            for name, kept in zip(self.block_names, self.policy.float().unbind(1), strict=True):
                values[f"block_usage_{name}"] = kept
        return values
