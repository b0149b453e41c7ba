"""Weights of a generator or its encoder, from a file or a URL."""

import os
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.errors import UserError


def load_weights(module: nn.Module, source: str | os.PathLike) -> None:
    """Fills a module from a checkpoint that may hold more than it.

    The module's part is found by its first key, whatever stands before that; what else there is,
    such as later layers, is left out.

    Args:
        module: to be filled.
        source: a file or URL.

    Raises:
        UserError: the file is not there or unsafe, or holds another network's weights.
    """
    path = _downloaded(source) if "://" in os.fspath(source) else source
    state = checkpoints.state_dict_of(checkpoints.load(path), f"checkpoint {source}")
    wanted = module.state_dict()
    first = next(iter(wanted))
    prefixes = [key.removesuffix(first) for key in state if f".{key}".endswith(f".{first}")]
    prefix = prefixes[0] if len(prefixes) == 1 else ""
    found = {key: state[prefix + key] for key in wanted if prefix + key in state}
    checkpoints.check_architecture(wanted, found, source)
    module.load_state_dict(found)


def cached_path(url: str) -> Path:
    """Where torchvision keeps what it downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _downloaded(url: str) -> Path:
    path = cached_path(url)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, os.fspath(path), progress=False)
        except OSError as error:
            raise UserError(
                f"checkpoint {url} cannot be downloaded ({error}); download it by hand and give "
                "the file"
            ) from error
    return path
