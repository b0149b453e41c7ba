"""Where details matter in the images of a batch, as each framework's targets tell it.

Read off the arguments alone, so that no framework is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.integrations.image_sizes import forward_arguments

IGNORED = 255
"""Label of pixels that count nowhere."""


def guided_backbones(model: nn.Module, kind: str) -> list[DynamicBackbone]:
    """The backbones in a model whose next pass takes guidance of a kind."""
    dynamic = (net for net in find_backbones(model) if isinstance(net, DynamicBackbone))
    return [net for net in dynamic if net.guidance == kind and net.records_auxiliary]


def pass_guidance(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of a model: tells its backbones what its targets say of where to look."""
    samples = _samples(args, kwargs)
    for net in guided_backbones(model, "objects"):
        boxes = [_boxes(sample) for sample in samples]
        if boxes and all(found is not None for found in boxes):
            net.set_guidance(boxes=boxes)
    for net in guided_backbones(model, "borders"):
        labels = [_labels(sample) for sample in samples]
        if labels and all(found is not None for found in labels):
            net.set_guidance(maps=_padded([borders(found).float() for found in labels]))
    for net in guided_backbones(model, "classes"):
        _pass_classes(net, samples)


def _pass_classes(net: DynamicBackbone, samples: Sequence[Any]) -> None:
    """Tells a backbone where its classes are: pixels where there are labels of them, or boxes."""
    labels = [_labels(sample) for sample in samples]
    if labels and all(found is not None for found in labels):
        net.set_guidance(maps=_padded([_among(found, net).float() for found in labels]))
        return
    pairs = [(_boxes(sample), _box_labels(sample)) for sample in samples]
    if pairs and all(part is not None for pair in pairs for part in pair):
        net.set_guidance(boxes=[boxes[_among(labels, net)] for boxes, labels in pairs])


def _padded(maps: Sequence[Tensor]) -> Tensor:
    """Maps (H, W) of several sizes as one (N, H, W), with zeros below and to the right."""
    height, width = (max(found.shape[axis] for found in maps) for axis in (0, 1))
    return torch.stack(
        [F.pad(found, (0, width - found.shape[1], 0, height - found.shape[0])) for found in maps]
    )


def _among(labels: Tensor, net: DynamicBackbone) -> Tensor:
    """Which labels are of the classes that guide a network."""
    return torch.isin(labels, torch.tensor(net.guidance_classes, device=labels.device))


def pass_boxes(body: nn.Module, targets: Sequence[Mapping[str, Tensor]] | None) -> None:
    """Tells the backbones in a torchvision detector where its transform has put the boxes.

    Args:
        body: module with the backbones.
        targets: that the transform returned, with ``"boxes"`` (n, 4) and ``"labels"`` (n,) each;
            None in evaluation.
    """
    for net in guided_backbones(body, "objects") if targets else ():
        net.set_guidance(boxes=[target["boxes"] for target in targets])
    for net in guided_backbones(body, "classes") if targets else ():
        kept = [target["boxes"][_among(target["labels"], net)] for target in targets]
        net.set_guidance(boxes=kept)


def borders(labels: Tensor) -> Tensor:
    """Pixels whose class differs from that of a neighbour, where both have one.

    Args:
        labels: (H, W) integers; 255 has no class.

    Returns:
        (H, W) float32 of 0 and 1.

    Example:
        >>> import torch
        >>> from dynbackbones.integrations.guidance import borders
        >>> borders(torch.tensor([[0, 0, 1, 255, 2]])).int()
        tensor([[0, 1, 1, 0, 0]], dtype=torch.int32)
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for axis in (0, 1):
        length = labels.shape[axis] - 1
        first, second = labels.narrow(axis, 0, length), labels.narrow(axis, 1, length)
        differ = (first != second) & (first != IGNORED) & (second != IGNORED)
        found.narrow(axis, 0, length).logical_or_(differ)
        found.narrow(axis, 1, length).logical_or_(differ)
    return found.float()


def _samples(args: tuple, kwargs: dict) -> Sequence[Any]:
    """What the model was called with for each image, of detectron2 or of OpenMMLab."""
    first = args[0] if args else None
    if isinstance(first, Sequence) and first and isinstance(first[0], Mapping):
        return first
    samples = forward_arguments(args, kwargs).get("data_samples")
    return samples if isinstance(samples, Sequence) else ()


def _boxes(sample: Any) -> Tensor | None:
    """(n, 4) of detectron2's ``Instances`` or mmdet's data sample."""
    if isinstance(sample, Mapping):
        boxes = getattr(sample.get("instances"), "gt_boxes", None)
    else:
        boxes = getattr(getattr(sample, "gt_instances", None), "bboxes", None)
    return getattr(boxes, "tensor", boxes)


def _box_labels(sample: Any) -> Tensor | None:
    """(n,) classes of these boxes."""
    if isinstance(sample, Mapping):
        return getattr(sample.get("instances"), "gt_classes", None)
    return getattr(getattr(sample, "gt_instances", None), "labels", None)


def _labels(sample: Any) -> Tensor | None:
    """(H, W) of detectron2's ``sem_seg`` or mmseg's data sample."""
    if isinstance(sample, Mapping):
        return sample.get("sem_seg")
    labels = getattr(getattr(sample, "gt_sem_seg", None), "data", None)
    return None if labels is None else labels.squeeze(0)
