"""Learns the policy of a backbone in a segmentor of mmseg."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.errors import UserError
from dynbackbones.integrations.image_sizes import forward_arguments
from dynbackbones.policy import PolicyLearning
from dynbackbones.policy.learning import RewardOptions
from dynbackbones.training.policy import attach_policy_training


def learn_policy(model: nn.Module, options: Mapping[str, Any] | None = None) -> None:
    """Attaches policy training to a model whose backbone asks for it.

    Classifiers that learn their policy themselves (`BlockDropClassifier`) are left alone.

    Args:
        model: the outermost module, before it is wrapped by DDP or the like.
        options: of `RewardOptions`.

    Raises:
        UserError: the model has no loss of each image, an option is unknown or out of range, or
            there are options and no policy to train.
    """
    learning = [
        backbone
        for backbone in find_backbones(model)
        if getattr(backbone, "policy_training", None) == "reinforce"
    ]
    if not learning or isinstance(getattr(model, "learning", None), PolicyLearning):
        if options is not None:
            raise UserError(
                "DynamicBackboneHook has policy options, but there is no policy for it to train: "
                "set the backbone's policy_training='reinforce', or remove them"
            )
        return
    if not callable(getattr(getattr(model, "decode_head", None), "loss", None)):
        raise UserError(
            "policy_training='reinforce' needs the loss of each image, which "
            f"{type(model).__name__} does not give: use a segmentor with one decode_head, "
            "BlockDropClassifier, or policy_training='frozen'"
        )
    try:
        reward = RewardOptions(**(options or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"policy options of DynamicBackboneHook: {error}") from error
    attach_policy_training(model, image_losses, reward)


def image_losses(model: nn.Module, args: tuple, kwargs: dict) -> Tensor:
    """The decode head's loss of each image, (N,); an `ImageLosses` for mmseg's segmentors.

    Args:
        model: takes a batch (N, C, H, W) and its N data samples.
        args, kwargs: what it was called with.
    """
    given = forward_arguments(args, kwargs)
    features = model.extract_feat(given["inputs"])
    losses = []
    for index, sample in enumerate(given["data_samples"]):
        feature = tuple(level[index : index + 1] for level in features)
        parts = model.decode_head.loss(feature, [sample], model.train_cfg)
        losses.append(sum(value for name, value in parts.items() if "loss" in name))
    return torch.stack(losses)
