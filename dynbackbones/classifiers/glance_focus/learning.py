"""How a `GlanceFocusClassifier` learns: the losses of its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.classifiers.glance_focus.crops import corners_of, crop, interpolated_crop
from dynbackbones.classifiers.glance_focus.network import GlanceFocusClassifier
from dynbackbones.classifiers.glance_focus.proposal import Proposal
from dynbackbones.classifiers.glance_focus.stages import POLICY, WARM_UP
from dynbackbones.classifiers.labels import check_labels
from dynbackbones.errors import UserError
from dynbackbones.policy import discounted_returns, score_function_loss
from dynbackbones.policy.learning import check_at_least_zero


class Sequence(NamedTuple):
    """All T looks at a batch.

    Attributes:
        logits, own: T times (N, classes), see `Look`.
        log_probs, values: T - 1 times (N,), of the places that were chosen and what the critic
            expected there; empty where crops are between the pixels.
        corners: T - 1 times (N, 2), row and column of each crop; empty likewise.
    """

    logits: list[Tensor]
    own: list[Tensor]
    log_probs: list[Tensor]
    values: list[Tensor]
    corners: list[Tensor]


@dataclass(frozen=True)
class FocusLearning:
    """Options and losses of the stages that `GlanceFocusClassifier.set_stage` lists.

    Attributes:
        auxiliary_weight: of the encoders' own classification beside the head's; 1 for ResNets and
            their like, 5 for MobileNetV3 and EfficientNet.
        deviation: of the places that are drawn around the proposed ones, as shares of the room.
        discount: of what later crops add to the probability of the right class.
        value_weight: of the critic's error.

    Raises:
        ValueError: one of them is out of range.

    Example:
        >>> import dynbackbones, torch
        >>> from dynbackbones.classifiers import FocusLearning
        >>> net = dynbackbones.build_classifier(
        ...     "glance_focus_cifar_resnet8", num_classes=10, patch=16, steps=2, stage="warm_up"
        ... )
        >>> images, labels = torch.rand(2, 3, 32, 32), torch.tensor([3, 4])
        >>> sorted(FocusLearning().losses(net, images, labels))
        ['accuracy_1', 'accuracy_2', 'loss_auxiliary', 'loss_classes']
    """

    auxiliary_weight: float = 1.0
    deviation: float = 0.1
    discount: float = 0.7
    value_weight: float = 0.5

    def __post_init__(self) -> None:
        for name in ("auxiliary_weight", "value_weight"):
            check_at_least_zero(name, getattr(self, name))
        if not 0 < self.deviation <= 1:
            raise ValueError(f"deviation must lie in (0, 1], got {self.deviation}")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount must lie in [0, 1], got {self.discount}")

    def losses(
        self, net: GlanceFocusClassifier, images: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the network's stage, and what to log beside them (names without "loss").

        Args:
            net: in training mode.
            images: (N, C, H, W).
            labels: (N,) classes.

        Raises:
            UserError: the labels are not one class each, or out of range.
        """
        check_labels(labels, len(images), net.num_classes)
        net.check_images(images)
        _check_company(net, images)
        if net.stage == WARM_UP:
            return self._supervised(look_around(net, images, _anywhere), labels)
        if net.stage != POLICY:
            return self._supervised(look_around(net, images, self._drawn), labels)
        if net.proposal_training == "interpolate":
            return self._interpolated(net, images, labels)
        return self._reinforced(look_around(net, images, self._drawn), labels)

    def _supervised(self, looks: Sequence, labels: Tensor) -> dict[str, Tensor]:
        classes = [F.cross_entropy(logits, labels) for logits in looks.logits]
        own = [F.cross_entropy(logits, labels) for logits in looks.own]
        return {
            "loss_classes": torch.stack(classes).mean(),
            "loss_auxiliary": self.auxiliary_weight * torch.stack(own).mean(),
            **_accuracies(looks, labels),
        }

    def _interpolated(
        self, net: GlanceFocusClassifier, images: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Crops at the proposed places, and, so that all places are known, crops anywhere."""
        learned = self._supervised(look_around(net, images, None), labels)
        anywhere = self._supervised(look_around(net, images, _anywhere), labels)
        return {
            name: (value + anywhere[name]) / 2 if "loss" in name else value
            for name, value in learned.items()
        }

    def _reinforced(self, looks: Sequence, labels: Tensor) -> dict[str, Tensor]:
        right = torch.stack([logits.softmax(dim=1) for logits in looks.logits], dim=1)
        right = right.gather(2, labels.view(-1, 1, 1).expand(-1, right.shape[1], 1)).squeeze(2)
        rewards = right.diff(dim=1).detach()
        returns = discounted_returns(rewards, self.discount)
        returns = (returns - returns.mean()) / (returns.std(correction=0) + 1e-5)
        log_probs, values = (torch.stack(v, dim=1) for v in (looks.log_probs, looks.values))
        advantage = returns - values
        means = {f"reward_{t}": r.mean() for t, r in enumerate(rewards.unbind(dim=1), start=2)}
        return {
            # The mean over steps too, as the authors have it, beside that of the critic.
            "loss_policy": score_function_loss(log_probs, advantage) / returns.shape[1],
            "loss_value": self.value_weight * F.mse_loss(values, returns),
            "reward": rewards.mean(),
            **means,
            **_accuracies(looks, labels),
        }

    def _drawn(self, proposed: Proposal) -> tuple[Tensor, Tensor]:
        """Places around the proposed ones, and the logarithms of their probability densities."""
        place = proposed.place
        if not bool(place.isfinite().all()):
            raise UserError(
                "the proposed places are not finite: images hold NaN or infinity, or the training "
                "diverged; check the images, or lower the learning rate"
            )
        drawn = place.detach() + self.deviation * torch.randn_like(place)
        # Up to a constant. Of what was drawn, not of what of it lies inside of the image.
        log_probs = -((drawn - place) ** 2).sum(dim=1) / (2 * self.deviation**2)
        return drawn.clamp(0, 1), log_probs


def look_around(
    net: GlanceFocusClassifier,
    images: Tensor,
    choose: Callable[[Proposal], tuple[Tensor, Tensor]] | None,
) -> Sequence:
    """All steps for all images.

    Args:
        net: the network.
        images: (N, C, H, W).
        choose: places, and the logarithms of their probabilities, from what is proposed; None for
            crops between the pixels at the proposed places.
    """
    rows, size = torch.arange(len(images), device=images.device), tuple(images.shape[-2:])
    # Only the proposal learns from its reward.
    frozen = not net.stage_trains_encoders
    looks, memory = Sequence([], [], [], [], []), None
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        look = net.look_whole(images)
    for step in range(1, net.steps + 1):
        looks.logits.append(look.logits)
        looks.own.append(look.own)
        if step == net.steps:
            return looks
        proposed = net.proposal(look.seen.map, memory)
        memory = proposed.memory
        if choose is None:
            crops = interpolated_crop(images, proposed.place, net.patch)
        else:
            places, log_probs = choose(proposed)
            looks.log_probs.append(log_probs)
            looks.values.append(proposed.value)
            looks.corners.append(corners_of(places, size, net.patch))
            crops = crop(images, rows, looks.corners[-1], net.patch)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            look = net.look_closer(crops, look.state)
    return looks


def _check_company(net: GlanceFocusClassifier, images: Tensor) -> None:
    """Batch norm knows no spread of one value."""
    if len(images) == 1 and net.proposal.map_shape[1:] == (1, 1) and net.stage_trains_encoders:
        raise UserError(
            f"a batch of one image does not train encoders whose maps at patch={net.patch} are of "
            "one pixel, as batch norm has nothing to compare: give at least two, or drop_last=True"
        )


def _anywhere(proposed: Proposal) -> tuple[Tensor, Tensor]:
    """Places anywhere, equally likely."""
    place = torch.rand_like(proposed.place)
    return place, torch.zeros_like(place[:, 0])


def _accuracies(looks: Sequence, labels: Tensor) -> dict[str, Tensor]:
    return {
        f"accuracy_{step}": 100 * (logits.detach().argmax(dim=1) == labels).float().mean()
        for step, logits in enumerate(looks.logits, start=1)
    }
