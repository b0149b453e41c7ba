"""Pretrained weights for a backbone: from a file, a URL or torchvision."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.backbones import Backbone
from dynbackbones.errors import UserError

# What classification networks of torchvision, mmpretrain and this package call their classifier.
HEADS = ("fc.", "head.")


def load_pretrained(backbone: Backbone, source: str, prefix: str | None = None) -> None:
    """Loads weights that must fit a backbone exactly; says what else of the file is left out.

    Args:
        backbone: to be filled.
        source: a file, a URL, or ``torchvision://`` and the name of one of its models.
        prefix: of the backbone's keys in a file that holds more, such as ``"backbone."``.

    Raises:
        UserError: there is no such file, or its weights are not this network's.
    """
    path = find_weights(source)
    whole = checkpoints.state_dict_of(checkpoints.load(path), source)
    below = _below(whole, prefix, source)
    state, left_out = without_head(below, backbone.state_dict())
    if len(below) < len(whole):
        left_out += [key for key in whole if not key.startswith(_dotted(prefix))]
    wanted, new = without_new_policy(backbone.state_dict(), state)
    checkpoints.check_architecture(wanted, state, source)
    backbone.load_state_dict(state, strict=False)
    notes = f"; left out {checkpoints.listed(sorted(left_out))}" if left_out else ""
    notes += "; the policy network starts anew" if new else ""
    print_log(f"{type(backbone).__name__}: loaded {source}{notes}", logger="current")


def without_new_policy(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str = ""
) -> tuple[dict[str, Tensor], bool]:
    """What a file must hold: a plain ResNet's weights fill a BlockDrop network but its policy.

    Args:
        wanted: the network's state dict.
        state: the file's.
        prefix: of the backbone's keys in both.

    Returns:
        ``wanted``, without the policy network if the file has nothing of it; whether that is so.
    """
    policy = f"{prefix}policy."
    new = any(key.startswith(policy) for key in wanted) and not any(
        key.startswith(policy) for key in state
    )
    return {k: v for k, v in wanted.items() if not (new and k.startswith(policy))}, new


def check_backbones(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Makes sure that weights of a whole model fit its backbones, which mmengine does not.

    The heads may differ: their numbers of classes do, from dataset to dataset.

    Args:
        model: to be filled.
        state: weights of a model.
        source: names the file in error messages.

    Raises:
        UserError: a backbone's weights are absent or another network's.
    """
    for name, module in model.named_modules():
        if not isinstance(module, Backbone):
            continue
        found = {
            k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")
        }
        if not found:
            raise UserError(
                f"checkpoint {source} has no weights of the model's {name}; weights of a backbone "
                f"alone go into init_cfg=dict(type='Pretrained', checkpoint=...) of {name}"
            )
        wanted, _ = without_new_policy(module.state_dict(), found)
        checkpoints.check_architecture(wanted, found, source)


def without_head(
    state: dict[str, Tensor], wanted: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Divides a state dict into what is not of a classifier's head, and the keys of that."""
    heads = [key for key in state if key.startswith(HEADS) and key not in wanted]
    return {key: value for key, value in state.items() if key not in heads}, heads


def find_weights(source: str) -> str:
    """The local file of a path, a URL (downloaded once) or a name of torchvision's.

    Raises:
        UserError: torchvision has no such model, or the scheme is not known.
    """
    scheme = re.match(r"(\w[\w-]*)://", source)
    if scheme is None:
        return source
    if scheme[1] == "torchvision":
        return _download(_torchvision_url(source))
    if scheme[1] in ("http", "https"):
        return _download(source)
    raise UserError(
        f"checkpoint {source}: {scheme[1]}:// is not known here; give a file, an https:// URL or "
        "torchvision://resnet50"
    )


def _torchvision_url(source: str) -> str:
    from torchvision import models

    name = source.removeprefix("torchvision://")
    try:
        weights = models.get_model_weights(name)
    except ValueError as error:
        raise UserError(
            f"checkpoint {source}: torchvision has no model {name}; for example resnet50"
        ) from error
    return next(iter(weights)).url


def _download(url: str) -> str:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, os.fspath(path))
        except OSError as error:
            raise UserError(
                f"checkpoint {url} cannot be downloaded ({error}); download it by hand and give "
                "the file"
            ) from error
    return os.fspath(path)


def _below(state: dict[str, Tensor], prefix: str | None, source: str) -> dict[str, Tensor]:
    prefixes = sorted({f"{key.split('.')[0]}." for key in state})
    if prefix is None:
        if "backbone." in prefixes:
            raise UserError(
                f"checkpoint {source} holds a whole model; add prefix='backbone.' to init_cfg"
            )
        return state
    prefix = _dotted(prefix)
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not found:
        raise UserError(
            f"checkpoint {source} has no key that starts with prefix {prefix!r}; its keys start "
            f"with {', '.join(prefixes[:6])}"
        )
    return found


def _dotted(prefix: str) -> str:
    return prefix if prefix.endswith(".") else f"{prefix}."
