"""A style generator from plain options, as a config gives them."""

import os
from collections.abc import Sequence

from dynbackbones.adaptation.encoder import RANDOM, build_encoder
from dynbackbones.adaptation.generator import StyleGenerator
from dynbackbones.adaptation.weights import load_weights


def build_generator(
    encoder: str = "vgg19",
    *,
    weights: str | os.PathLike | None = None,
    encoder_weights: str | os.PathLike | None = None,
    channels: Sequence[int] = (16, 32, 64, 128),
    convolutions: Sequence[int] = (2, 2, 2, 1),
    content_weight: float = 1.0,
    style_weight: float = 1.0,
) -> StyleGenerator:
    """A generator, with trained weights where they are given.

    Args:
        encoder: ``"vgg19"`` or ``"small_vgg"``.
        weights: a file or URL with the whole generator, encoder and decoder. Without one the
            decoder is random.
        encoder_weights: of the encoder alone, for which see `build_encoder`; not read where
            ``weights`` are given.
        channels, convolutions: of a ``"small_vgg"``; see `VGGEncoder`.
        content_weight, style_weight: see `StyleGenerator`.

    Raises:
        UserError: the encoder is not known, or weights are missing or another network's.
        ValueError: an option has no possible value.
    """
    generator = StyleGenerator(
        build_encoder(
            encoder,
            weights=encoder_weights if weights is None else RANDOM,
            channels=channels,
            convolutions=convolutions,
        ),
        content_weight=content_weight,
        style_weight=style_weight,
    )
    if weights is not None:
        load_weights(generator, weights)
    return generator
