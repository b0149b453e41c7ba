"""Weights of a generator or its encoder, from a file or a URL."""

import os

from torch import nn

from dynbackbones import checkpoints


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
    state = checkpoints.read_weights(source)
    wanted = module.state_dict()
    first = next(iter(wanted))
    prefixes = [key.removesuffix(first) for key in state if f".{key}".endswith(f".{first}")]
    prefix = prefixes[0] if len(prefixes) == 1 else ""
    found = {key: state[prefix + key] for key in wanted if prefix + key in state}
    checkpoints.check_architecture(wanted, found, source)
    module.load_state_dict(found)
