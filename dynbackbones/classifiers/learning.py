"""How a classifier of patches learns: the losses of PatchDrop's stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.classifiers.labels import check_labels
from dynbackbones.classifiers.patchdrop import POLICY, PatchDrop
from dynbackbones.classifiers.views import View
from dynbackbones.policy import PolicyLearning, PolicyProposal


@dataclass(frozen=True)
class PatchLearning:
    """Options and losses of the stages that `PatchDrop.set_stage` lists.

    Attributes:
        sigma: penalty of a wrong prediction; the reward of a right one is 1 - (S/P)^2. The paper
            prints it with a minus sign. Weak classifiers need a small one, or all is chosen.
        alpha: actions are drawn with probabilities in [1 - alpha, alpha]; two values are those at
            the start and at the end of training, linear in `PatchDrop.progress` between.
        entropy_weight: see `PolicyLearning`.

    Raises:
        ValueError: one of them is out of range.

    Example:
        >>> import dynbackbones, torch
        >>> from dynbackbones.classifiers import PatchLearning
        >>> net = dynbackbones.build_classifier("patchdrop_cifar_resnet8", num_classes=10)
        >>> net.set_stage("high")
        >>> images, labels = torch.rand(2, 3, 32, 32), torch.tensor([3, 4])
        >>> sorted(PatchLearning(sigma=0.5).losses(net, images, labels))
        ['accuracy', 'loss']
    """

    sigma: float = 0.5
    alpha: float | Sequence[float] = 0.8
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.sigma < 0:
            raise ValueError(
                f"sigma must be at least 0, got {self.sigma}: the paper prints it with the minus "
                "sign that the reward gives it"
            )
        if len(self._ends) != 2:
            raise ValueError(f"alpha must be a number or (start, end), got {self.alpha}")
        for fraction in (0.0, 1.0):
            self.at(fraction)

    @property
    def _ends(self) -> Sequence[float]:
        return self.alpha if isinstance(self.alpha, Sequence) else (self.alpha, self.alpha)

    def at(self, progress: float) -> PolicyLearning:
        """The policy gradient's options after a share of training."""
        start, end = self._ends
        return PolicyLearning(self.sigma, start + progress * (end - start), self.entropy_weight)

    def losses(self, net: PatchDrop, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of the network's stage, and what to log beside them (names without "loss").

        Args:
            net: in training mode.
            images: (N, C, H, W).
            labels: (N,) classes.

        Raises:
            UserError: the labels are not one class each, or out of range.
        """
        check_labels(labels, len(images), net.num_classes)
        if not net.decides:
            scores = net(images)
            accuracy = 100 * _right(scores, labels).float().mean()
            return {"loss": F.nll_loss(scores, labels), "accuracy": accuracy}
        net.check_images(images)
        view = net.view(images)
        proposal = self._proposal(net, view)
        losses = {}
        if net.stage == POLICY:
            with torch.no_grad():
                sampled = net.predict(view, proposal.sampled)
        else:
            sampled = net.predict(view, proposal.sampled)
            losses["loss_classes"] = F.nll_loss(sampled, labels)
        with torch.no_grad():
            greedy = net.predict(view, proposal.greedy)
        learning = self.at(net.progress)
        right = _right(sampled, labels), _right(greedy, labels)
        losses.update(learning.losses(proposal, *right))
        del losses["learned_blocks"]  # BlockDrop's; here all actions are learned
        return losses

    def _proposal(self, net: PatchDrop, view: View) -> PolicyProposal:
        probabilities = net.policy_probabilities(view)
        valid = view.grid.valid[0].flatten()
        proposal = self.at(net.progress).propose(probabilities, valid)
        possible = (
            net.possible(view, actions, probabilities.detach())
            for actions in (proposal.sampled, proposal.greedy)
        )
        return replace(proposal, **dict(zip(("sampled", "greedy"), possible, strict=True)))


def _right(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.detach().argmax(dim=1) == labels
