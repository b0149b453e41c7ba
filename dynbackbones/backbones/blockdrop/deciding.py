"""The policy network of a backbone that decides first: what it sees, when it learns, its cost."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.backbones.resnet import check_choice
from dynbackbones.policy.learning import RewardOptions
from dynbackbones.policy.network import PolicyNetwork

POLICY_TRAININGS = ("frozen", "reinforce")

Size = tuple[int, int]


class DecidesFirst(DynamicBackbone):
    """Base of `BlockDropBackbone`, which says what the arguments mean.

    Attributes:
        policy: the policy network, which looks at each image without its padding.
    """

    # At a detector's rate, rewards of several units saturate a policy within a few iterations.
    lr_factors = {"policy": 0.01}
    training_options = RewardOptions

    policy: PolicyNetwork

    def __init__(self, in_channels: int, policy_training: str, execution: str) -> None:
        super().__init__(in_channels, execution)
        check_choice("policy_training", policy_training, POLICY_TRAININGS)
        self.policy_training = policy_training
        self.register_load_state_dict_post_hook(_report_untrained)

    def own_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {"policy": list(self.policy.parameters())}

    def thresholds(self) -> list[Tensor]:
        return [self.policy.threshold]

    def decision_keys(self) -> set[str]:
        return {f"policy.{key}" for key in self.policy.state_dict()}

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        return {"policy network": [self.policy], **super().timed_parts()}

    def _frozen(self) -> Iterator[nn.Module]:
        yield from super()._frozen()
        if self.policy_training == "frozen":
            yield self.policy

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
        if image_sizes is None:
            image_sizes = self._traces.mine.image_sizes
        with self.state_kept():
            return self._probabilities(images, self._check_inputs(images, image_sizes).sizes)

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

    def _policy_macs(self, size: Size) -> int:
        return self.policy.macs(*self.policy_view_size(*size))


def _report_untrained(net: DecidesFirst, incompatible: Any) -> None:
    """Says after loading that nothing is saved, which a plain ResNet's weights cannot show."""
    if net.policy.trained or net.selection is not None or net.policy_training != "frozen":
        return
    logging.getLogger("dynbackbones").warning(
        f"the policy network of {type(net).__name__} is untrained, so that all "
        f"{net.num_blocks} blocks run for every image: load weights with a trained policy, train "
        f"one (policy_training 'reinforce'), or choose blocks with select()"
    )
