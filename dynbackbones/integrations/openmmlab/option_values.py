"""What OpenMMLab's options of a backbone mean for the backbones of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import WEIGHT_INITIALIZERS

from dynbackbones.layers.norm import NormLayer

# (strides, dilations) of the four stages in mmseg's configs -> output stride.
_LAYOUTS = {
    ((1, 2, 2, 2), (1, 1, 1, 1)): 32,
    ((1, 2, 2, 1), (1, 1, 1, 2)): 16,
    ((1, 2, 1, 1), (1, 1, 2, 4)): 8,
}


def check_init(cfg: Mapping[str, Any]) -> None:
    """Makes sure that mmengine knows what an ``init_cfg`` asks for.

    Raises:
        ValueError: it does not.
    """
    if cfg.get("type") not in WEIGHT_INITIALIZERS.module_dict:
        raise ValueError(
            f"init_cfg has the type {cfg.get('type')!r}; known: "
            f"{', '.join(sorted(WEIGHT_INITIALIZERS.module_dict))}"
        )
    options = cfg.keys() - {"type"}
    if cfg["type"] == "Pretrained" and not {"checkpoint"} <= options <= {"checkpoint", "prefix"}:
        raise ValueError(
            "init_cfg of type Pretrained takes checkpoint and prefix, got "
            f"{', '.join(sorted(options)) or 'nothing'}"
        )


def output_stride_of(
    output_stride: int | None, strides: Sequence[int] | None, dilations: Sequence[int] | None
) -> int | None:
    """The output stride that either way of writing it means; None for the backbone's own.

    Raises:
        ValueError: both ways are used, or strides and dilations mean no known network.
    """
    if strides is None and dilations is None:
        return output_stride
    if output_stride is not None:
        raise ValueError("give output_stride, or strides and dilations, not both")
    layout = tuple(strides or (1, 2, 2, 2)), tuple(dilations or (1, 1, 1, 1))
    if layout not in _LAYOUTS:
        known = "; ".join(f"{s}, {d} (output_stride {o})" for (s, d), o in _LAYOUTS.items())
        raise ValueError(
            f"strides {layout[0]} with dilations {layout[1]} is not a known network; known: {known}"
        )
    return _LAYOUTS[layout]


def norm_of(norm_cfg: Mapping[str, Any] | None) -> NormLayer | None:
    """A constructor of norm layers from OpenMMLab's config of one; None for the backbone's own.

    Raises:
        ValueError: mmcv knows no such layer.
    """
    if norm_cfg is None:
        return None
    # Imported on use: mmengine alone is enough for everything else here.
    from mmcv.cnn import build_norm_layer

    try:
        build_norm_layer(dict(norm_cfg), 64)
    except KeyError as error:
        raise ValueError(
            f"norm_cfg has the type {norm_cfg.get('type')!r}; give one that mmcv knows, such as BN "
            "or SyncBN"
        ) from error
    return lambda channels: build_norm_layer(dict(norm_cfg), channels)[1]
