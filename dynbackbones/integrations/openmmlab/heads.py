"""Whether the heads of a segmentor fit its backbone."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from dynbackbones.backbones import Backbone
from dynbackbones.errors import UserError


def check_heads(model: nn.Module) -> None:
    """Compares the heads' ``in_channels`` and ``in_index`` with the features they will get.

    Only heads that read the backbone directly are looked at, not those behind a neck.

    Args:
        model: a segmentor of mmseg; other models pass.

    Raises:
        UserError: they differ; names the head, its value and the right one.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, Backbone) or getattr(model, "with_neck", False):
        return
    names = backbone.out_names
    channels = [backbone.feature_info[name].channels for name in names]
    for head_name, head in _heads(model):
        if not hasattr(head, "in_index") or not hasattr(head, "in_channels"):
            continue
        several = isinstance(head.in_index, (list, tuple))
        indices = list(head.in_index) if several else [head.in_index]
        joined = not isinstance(head.in_channels, (list, tuple))
        given = [head.in_channels] if joined else list(head.in_channels)
        for index in indices:
            if not -len(names) <= index < len(names):
                raise UserError(
                    f"{head_name}.in_index {index}: the backbone gives {len(names)} features "
                    f"({', '.join(names)}); change in_index, or the backbone's out_indices"
                )
        wanted = [channels[index] for index in indices]
        if joined:
            wanted = [sum(wanted)]
        if given != wanted:
            read = ", ".join(names[index] for index in indices)
            raise UserError(
                f"{head_name}.in_channels is {_shown(given)}, but {read} of the backbone has "
                f"{_shown(wanted)} channels; set in_channels={_shown(wanted)}"
            )


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(model, name, None)
        if isinstance(head, nn.ModuleList):
            for index, child in enumerate(head):
                yield f"{name}[{index}]", child
        elif isinstance(head, nn.Module):
            yield name, head


def _shown(values: list[int]) -> str:
    return str(values[0] if len(values) == 1 else values)
