"""Learns BlockDrop's policy inside any model that returns a dict of losses.

For dense prediction no answer is simply right, so a policy counts as successful on an image if the
task's loss is hardly larger than that of the full network on the same image. Frameworks reduce
losses over the batch: what gives the loss of each image is the caller's to say.

Wu et al., BlockDrop: Dynamic Inference Paths in Residual Networks, CVPR 2018, section 3.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.errors import UserError
from dynbackbones.policy import learned_actions, scheduled_count
from dynbackbones.policy.learning import RewardOptions
from dynbackbones.training.handles import Handles

ImageLosses = Callable[[nn.Module, tuple, dict], Tensor]
"""From a model in training mode and the arguments that it was called with to the task's loss of
each image, (N,). It may call the model, which then does not learn the policy once more."""


def attach_policy_training(
    model: nn.Module, image_losses: ImageLosses, options: RewardOptions | None = None
) -> Handles:
    """Adds ``loss_policy`` to the dict of losses that a model returns in training.

    A training forward runs the network with the greedy policy, and its losses train the task. The
    hook then asks for the losses of each image with the full network, the greedy policy and a
    sampled one (those that are the same once), without gradients and with fixed batch statistics,
    and rewards the policy network for the difference between sampled and greedy.

    The policy network normalises by its running statistics in training too: a batch can be a single
    image, whose own statistics say nothing of the next one's.

    Args:
        model: the outermost module, before it is wrapped by DDP or the like.
        image_losses: the task's loss of each image.
        options: of the reward.

    Returns:
        A handle whose ``remove()`` undoes it.

    Raises:
        ValueError: the model has not exactly one backbone with a policy, or its
            ``policy_training`` is not ``"reinforce"``.
    """
    backbone = _backbone_of(model)
    if backbone.policy_training != "reinforce":
        raise ValueError(
            f"attach_policy_training needs a backbone with policy_training 'reinforce', got "
            f"{backbone.policy_training!r}"
        )
    training = _PolicyTraining(image_losses, options or RewardOptions())
    return Handles(
        [
            backbone.register_forward_pre_hook(training.before_backbone, with_kwargs=True),
            model.register_forward_hook(training.after_model, with_kwargs=True),
        ]
    )


class _PolicyTraining:
    """The hooks of one model; a deep copy of the model gets a deep copy of it.

    Args:
        image_losses: the task's loss of each image.
        options: of the reward.
    """

    def __init__(self, image_losses: ImageLosses, options: RewardOptions) -> None:
        self._image_losses = image_losses
        self._options = options
        self._images: Tensor | None = None
        self._comparing = False

    def before_backbone(self, backbone: DynamicBackbone, args: tuple, kwargs: dict) -> None:
        """Keeps the backbone's input for `after_model`, and lets the policy network see it."""
        if self._comparing or not backbone.records_auxiliary:
            return
        given = inspect.signature(backbone.forward).bind(*args, **kwargs).arguments
        self._images = given["images"]
        backbone.policy.train()
        with torch.no_grad():  # for the running statistics alone
            backbone.policy_probabilities(self._images, given.get("image_sizes"))
        backbone.policy.eval()

    def after_model(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """Adds the policy's loss to the model's."""
        if self._comparing or self._images is None:
            return None
        images, self._images = self._images, None
        if not isinstance(output, dict):
            return None
        backbone = _backbone_of(model)
        sizes = backbone.decisions.image_sizes
        probabilities = backbone.policy_probabilities(images, sizes)
        proposal = self._options.propose(probabilities, self._learned(backbone))
        full = torch.ones_like(proposal.greedy)
        with self._compare(model):
            limit, *losses = self._losses_with(
                [full, proposal.sampled, proposal.greedy], model, args, kwargs
            )
        limit = limit * (1 + self._options.tolerance)
        learned = self._options.losses(proposal, *(loss <= limit for loss in losses))
        loss = sum(value for name, value in learned.items() if "loss" in name)
        return {**output, "loss_policy": self._options.loss_weight * loss}

    def _learned(self, backbone: DynamicBackbone) -> Tensor:
        """(K,) bool, the blocks that are learned at this point of training."""
        count = backbone.num_blocks
        if self._options.curriculum:
            count = scheduled_count(count, backbone.progress, self._options.curriculum)
        return learned_actions(backbone.num_blocks, count)

    def _losses_with(
        self, policies: Sequence[Tensor], model: nn.Module, args: tuple, kwargs: dict
    ) -> list[Tensor]:
        """(N,) losses of the images with each policy."""
        backbone = _backbone_of(model)
        done: list[tuple[Tensor, Tensor]] = []
        for policy in policies:
            known = [losses for other, losses in done if torch.equal(policy, other)]
            if not known:
                with backbone.select(policy):
                    known = [self._image_losses(model, args, kwargs).detach()]
            if known[0].shape != policy.shape[:1]:
                raise ValueError(
                    f"image_losses must return one loss for each of {len(policy)} images, got "
                    f"shape {tuple(known[0].shape)}"
                )
            done.append((policy, known[0]))
        return [losses for _, losses in done]

    @contextmanager
    def _compare(self, model: nn.Module) -> Iterator[None]:
        """Inside, forward passes of the model leave no trace in it."""
        layers = [m for m in model.modules() if isinstance(m, _TRACES) and m.training]
        self._comparing = True
        try:
            for layer in layers:
                layer.eval()
            with torch.no_grad(), _backbone_of(model).state_kept():
                yield
        finally:
            for layer in layers:
                layer.train()
            self._comparing = False


# Layers that training mode makes random, or that collect statistics in it.
_TRACES = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def one_image_loss(model: nn.Module, args: tuple, kwargs: dict) -> Tensor:
    """The sum of a detector's losses on a batch of one image: (1,); an `ImageLosses`.

    For detectors whose losses do not depend on chance, such as RetinaNet. The running mean by which
    detectron2's RetinaNet divides its losses is left as it was, and the same for every policy.

    Args:
        model: takes the images as its first argument, a list.
        args, kwargs: what it was called with.

    Raises:
        UserError: there are several images.
    """
    if len(args[0]) != 1:
        raise UserError(
            f"policy training needs one image per process, since a detector's losses are sums over "
            f"its batch, got {len(args[0])}; set SOLVER.IMS_PER_BATCH to the number of processes"
        )
    normalizer = getattr(model, "loss_normalizer", None)
    losses = model(*args, **kwargs)
    if normalizer is not None:
        model.loss_normalizer = normalizer
    return torch.stack([sum(losses.values())])


def _backbone_of(model: nn.Module) -> DynamicBackbone:
    found = [net for net in find_backbones(model) if getattr(net, "policy_training", None)]
    if len(found) != 1:
        raise ValueError(
            f"policy training needs a model with one backbone that has a policy, such as "
            f"BlockDropResNet; {type(model).__name__} has {len(found)}"
        )
    return found[0]
