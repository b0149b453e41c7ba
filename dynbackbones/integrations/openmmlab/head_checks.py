"""Whether the neck and the heads of a model fit its backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from dynbackbones.backbones import Backbone
from dynbackbones.errors import UserError


def check_heads(model: nn.Module) -> None:
    """Compares ``in_channels`` and ``in_index`` of what reads the backbone with its features.

    That is the neck, or heads where there is none or one without weights, such as global pooling.

    Args:
        model: a segmentor of mmseg, classifier of mmpretrain or detector of mmdet.

    Raises:
        UserError: they differ; names the neck or head, its value and the right one.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, Backbone):
        return
    names = backbone.out_names
    channels = [backbone.feature_info[name].channels for name in names]
    if getattr(model, "with_neck", False):
        _check_neck(model, names, channels)
        return
    for name, head in _heads(model):
        if hasattr(head, "in_index") and hasattr(head, "in_channels"):
            _check_head(name, head, names, channels)


def _check_neck(model: nn.Module, names: Sequence[str], channels: list[int]) -> None:
    """Checks a pyramid's list, or the classifier behind a neck without weights."""
    neck = getattr(model, "neck", None)
    # The first counts where several follow each other.
    first = neck[0] if isinstance(neck, nn.Sequential) else neck
    if isinstance(getattr(first, "in_channels", None), list | tuple):
        _check_in_channels("neck", first, ", ".join(names), channels)
    pooling = isinstance(neck, nn.Module) and not any(p.dim() > 1 for p in neck.parameters())
    if pooling and hasattr(model, "head"):
        _check_in_channels("head", model.head, names[-1], channels[-1])


def _check_in_channels(name: str, part: nn.Module, read: str, right: int | list[int]) -> None:
    given = getattr(part, "in_channels", right)
    given = list(given) if isinstance(given, list | tuple) else given
    if given != right:
        have = "have" if isinstance(right, list) else "has"
        raise UserError(
            f"{name}.in_channels is {given}, but {read} of the backbone {have} {right} channels; "
            f"set in_channels={right}"
        )


def _check_head(
    head_name: str, head: nn.Module, names: Sequence[str], channels: Sequence[int]
) -> None:
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
