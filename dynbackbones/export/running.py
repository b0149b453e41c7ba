"""Exported files run by ONNX Runtime, and held against the network that they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from dynbackbones.backbones.base import Backbone
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.export.backbones import Exported

TOLERANCE = 1e-4
"""Largest difference of a feature map, relative to its largest value."""

MAX_OTHER = 0.01
"""Share of the choices that may be others than the network's."""


def session(file: str | Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU, with a file or what one would contain."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Idle threads would take the cores of whatever runs next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = file if isinstance(file, bytes) else str(file)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The outputs of a file by their names."""
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: np.asarray(value) for name, value in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


@torch.no_grad()
def largest_difference(
    net: Backbone,
    exported: Exported,
    file: onnxruntime.InferenceSession,
    sizes: Sequence[tuple[int, int]],
) -> float:
    """How far a file's features are from the network's, relative to the largest of each map.

    On random images of these sizes. Networks that decide are compared with everything, with nothing
    and with what the file chooses by itself; each time the network is made to choose the same.

    Args:
        net: that was exported, on the CPU and in evaluation mode.
        exported: what it became.
        file: what was written.
        sizes: (height, width) of images.

    Raises:
        RuntimeError: the file chooses otherwise than the network does by itself.
    """
    generator, found = torch.Generator().manual_seed(0), []
    thresholds = net.thresholds() if isinstance(net, DynamicBackbone) else []
    for height, width in sizes:
        images = torch.randn(1, net.in_channels, height, width, generator=generator)
        outputs = run(file, {"images": images})
        features = _features(net, images)
        if exported.selection is not None:
            chosen = exported.selection(outputs)
            _check_choices(chosen, net.decisions.choices())
            features = _replayed(net, images, chosen)
        found.append(_difference(outputs, features))
        for threshold in (-torch.inf, torch.inf) if thresholds else ():
            given = torch.full((len(thresholds),), threshold)
            outputs = run(file, {"images": images, "thresholds": given})
            features = _replayed(net, images, exported.selection(outputs))
            found.append(_difference(outputs, features))
    return float(torch.stack(found).max())  # NaN if one is


def _replayed(net: DynamicBackbone, images: Tensor, chosen: Any) -> Mapping[str, Tensor]:
    with net.select(chosen):
        return _features(net, images)


def _features(net: Backbone, images: Tensor) -> Mapping[str, Tensor]:
    features = net(images)
    # In OpenMMLab's form a network returns the maps that a config asks for, without their names.
    return features if isinstance(features, Mapping) else dict(
        zip(net.out_names, features, strict=True)
    )


def _difference(outputs: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Tensor:
    scales = {name: value.abs().max().clamp(min=1e-6) for name, value in features.items()}
    found = [(outputs[n] - features[n]).abs().max() / scales[n] for n in features]
    return torch.stack(found).max()


def _check_choices(chosen: Any, wanted: Any) -> None:
    pairs = [(chosen, wanted)]
    if isinstance(wanted, Mapping):
        pairs = [(chosen[name], wanted[name]) for name in wanted if wanted[name].numel()]
    other = sum(int((a != b).sum()) for a, b in pairs)
    # What is all but undecided may fall on either side.
    if other > MAX_OTHER * sum(b.numel() for _, b in pairs):
        raise RuntimeError(f"the exported file makes {other} other choices than the network")
