"""Conditional BagNet: each chosen patch is seen alone, so that those dropped cost nothing.

Uzkent and Ermon, CVPR 2020, section 6. (Brendel's BagNets restrict the kernels instead.)
"""

import torch
from torch import Tensor

from dynbackbones.backbones.resnet import check_choice
from dynbackbones.classifiers.patchdrop import HIGH, JOINT, LOW, POLICY, TWO_STREAM, PatchDrop
from dynbackbones.classifiers.views import View, cut, reduced_size
from dynbackbones.layers.tracing import is_traced

EMPTIES = ("keep", "low")
EXECUTIONS = ("gathered", "masked")


class BagNet(PatchDrop):
    """`PatchDrop` whose ``high`` sees each patch alone; the chosen ones' logits are averaged.

    Patches of the whole batch are gathered and run at once: cost is proportional to their number.
    Heights and widths must be multiples of ``grid``.

    Args:
        encoder, num_classes, **options: see `PatchDrop`; ``fill`` has no effect, so it is none.
        empty: where the policy chooses nothing: ``"keep"`` the most probable patch all the same, or
            ``"low"``, the answer of the network that sees the reduced image.
        execution: ``"gathered"``, or ``"masked"``, which runs every patch and gives the same;
            networks that are exported or compiled are masked.

    Example:
        >>> import dynbackbones, torch
        >>> net = dynbackbones.build_classifier("bagnet_cifar_resnet8", num_classes=10).eval()
        >>> net.set_stage("high")
        >>> costs = []
        >>> for rate in (0.25, 1):
        ...     with net.select("first", rate=rate):
        ...         _ = net(torch.rand(2, 3, 32, 32))
        ...     costs.append(net.decisions.macs.sum())
        >>> costs[1] / costs[0]
        tensor(4., dtype=torch.float64)
    """

    def __init__(
        self,
        encoder: str,
        num_classes: int,
        *,
        grid: int = 4,
        scale: int = 4,
        fusion: str = "mixture",
        low_mode: str = "bilinear",
        policy_head: str = "global",
        stage: str = TWO_STREAM,
        in_channels: int = 3,
        empty: str = "keep",
        execution: str = "gathered",
    ) -> None:
        check_choice("empty", empty, EMPTIES)
        check_choice("execution", execution, EXECUTIONS)
        super().__init__(
            encoder,
            num_classes,
            grid=grid,
            scale=scale,
            fusion=fusion,
            low_mode=low_mode,
            policy_head=policy_head,
            stage=stage,
            in_channels=in_channels,
        )
        self.empty, self.execution = empty, execution

    def possible(self, view: View, actions: Tensor, probabilities: Tensor) -> Tensor:
        """As `PatchDrop.possible`, with a patch for every image where ``empty`` is ``"keep"``."""
        actions = super().possible(view, actions, probabilities)
        if self.empty != "keep":
            return actions
        best = torch.zeros_like(actions).scatter(1, probabilities.argmax(dim=1, keepdim=True), True)
        return torch.where(actions.any(dim=1, keepdim=True), actions, best)

    def predict(self, view: View, actions: Tensor) -> Tensor:
        if self.stage in (POLICY, JOINT) and self.empty == "low":
            chosen = actions.any(dim=1)
            high = self._stream(HIGH, view, actions, chosen)
            low = self._stream(LOW, view, actions, ~chosen)
            return torch.where(chosen.unsqueeze(1), high, low).log_softmax(dim=1)
        return super().predict(view, actions)

    def _sees(self, actions: Tensor) -> Tensor | None:
        return actions.any(dim=1) if self.empty == "low" else None

    def _high(self, view: View, actions: Tensor) -> tuple[Tensor, Tensor | None]:
        patches = cut(view)
        images, count = actions.shape
        if is_traced() or self.execution == "masked":
            logits = self.high(patches.flatten(0, 1)).view(images, count, -1)
            weights = actions.unsqueeze(2).to(logits)
            mean = (logits * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
            owners = torch.arange(images, device=actions.device).repeat_interleave(count)
            return mean, owners
        chosen = actions.sum(dim=1, keepdim=True)
        if not bool(chosen.all()):
            raise ValueError(
                f"selection chooses no patch of {int((chosen == 0).sum())} of {images} images, and "
                "a BagNet sees nothing else; choose some, or build it with empty='low'"
            )
        owners = actions.nonzero()[:, 0]
        logits = self.high(patches[actions])
        total = logits.new_zeros(images, logits.shape[1]).index_add(0, owners, logits)
        return total / chosen, owners

    def macs(self, height: int, width: int, share: float = 1.0) -> float:
        """See `PatchDrop.macs`; ``high`` costs its patches."""
        low = reduced_size(height, width, self.scale)
        size = height // self.grid, width // self.grid
        total = float(self.policy.macs(*low)) + share * self.grid**2 * self.high.macs(*size)
        return total + (self.low.macs(*low) if share < 1 or self.fusion == "sum" else 0.0)

    def extra_repr(self) -> str:
        return f"empty={self.empty!r}, execution={self.execution!r}"
