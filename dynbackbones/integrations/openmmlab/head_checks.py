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
        for index in indices:
            if not -len(names) <= index < len(names):
                raise UserError(
                    f"{head_name}.in_index {index}: the backbone gives {len(names)} features "
                    f"({', '.join(names)}); change in_index, or the backbone's out_indices"
                )
        wanted = [channels[index] for index in indices]
        # A head that joins features keeps only the sum of its config's list.
        joined = several and not isinstance(head.in_channels, (list, tuple))
        given = head.in_channels if joined or not several else list(head.in_channels)
        if given != (sum(wanted) if joined else wanted if several else wanted[0]):
            read = ", ".join(names[index] for index in indices)
            right = wanted if several else wanted[0]
            raise UserError(
                f"{head_name}.in_channels {'adds up to' if joined else 'is'} {given}, but {read} "
                f"of the backbone has {right} channels; set in_channels={right}"
            )


def check_classes(model: nn.Module, num_classes: int, source: str) -> None:
    """Makes sure that the heads have an output for each class of the labels.

    Args:
        model: a segmentor of mmseg; other models pass.
        num_classes: of the labels.
        source: says where that number comes from.

    Raises:
        UserError: a head has fewer outputs; names it and the right number.
    """
    for head_name, head in _heads(model):
        outputs = getattr(head, "num_classes", num_classes)
        if outputs < num_classes:
            raise UserError(
                f"{head_name}.num_classes is {outputs}, but the labels have {num_classes} classes "
                f"({source}); set num_classes={num_classes}"
            )


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(model, name, None)
        if isinstance(head, nn.ModuleList):
            for index, child in enumerate(head):
                yield f"{name}[{index}]", child
        elif isinstance(head, nn.Module):
            yield name, head
