"""Glance and Focus as an ONNX file that stops when it is sure: a ``Loop`` over the crops."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch
from onnxruntime import InferenceSession
from torch import Tensor

from dynbackbones.classifiers.glance_focus import GlanceFocusClassifier
from dynbackbones.classifiers.glance_focus.decisions import FocusChoices
from dynbackbones.classifiers.glance_focus.exits import no_exits
from dynbackbones.errors import UserError
from dynbackbones.export import running
from dynbackbones.export.files import ExportReport, begun, write_checked
from dynbackbones.export.glance_focus_nodes import add_walk

EXECUTION = "stops when sure"
_TITLE = "Glance and Focus"
# Height and width of random images, in patches.
_CHECKED_SIZES = ((2, 2), (1.4, 2.3), (1, 1.7))


def glance_focus_to_onnx(
    net: GlanceFocusClassifier, path: str | os.PathLike, *, overwrite: bool = False
) -> ExportReport:
    """Writes a `GlanceFocusClassifier` as an ONNX file that looks no longer than it must.

    The file takes ``images``, float32 (1, C, H, W) normalised as in training, of any height and
    width of at least a patch, and ``exits``, by default the network's own. It returns ``logp``
    (1, classes), ``steps`` (1,) that were taken and ``corners`` (steps - 1, 2), row and column of
    the crops. Nothing is written that ONNX Runtime computes otherwise than the network.

    Args:
        net: trained; it stays as it is.
        path: of the file, ending in ``.onnx``.
        overwrite: replace a file that is there.

    Raises:
        UserError: the network cannot be exported, or the file may not be written.
        RuntimeError: ONNX Runtime computes something else, which is a defect.

    Example:
        >>> import dynbackbones, tempfile
        >>> from dynbackbones.export import glance_focus_to_onnx
        >>> net = dynbackbones.build_classifier(
        ...     "glance_focus_cifar_resnet8", num_classes=10, patch=16, steps=3
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = glance_focus_to_onnx(net, f"{folder}/net.onnx")
        >>> report.execution, report.outputs["logp"]
        ('stops when sure', (1, 10))
    """
    path, net, graph = begun(path, overwrite, net, check_free)
    graph.input("images", (1, net.in_channels, "height", "width"))
    add_walk(graph, net, "images")
    meta = {"execution": EXECUTION}
    return write_checked(path, graph, _TITLE, meta, partial(largest_difference, net))


def check_free(net: GlanceFocusClassifier) -> None:
    """Makes sure that a network decides itself.

    Raises:
        UserError: its decisions are overridden.
    """
    if net.selection is not None:
        raise UserError(
            f"the decisions of {type(net).__name__} are overridden by {net.selection}: export it "
            "outside of select(...)"
        )


@torch.no_grad()
def largest_difference(
    net: GlanceFocusClassifier,
    file: InferenceSession,
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """The largest of the log-probabilities of a few random images, relative to the largest.

    With the network's exits, without any, and with ones that are a confidence of these images.

    Args:
        net: that was exported, on the CPU and in evaluation mode.
        file: what was written.
        prepare: what the file does with pixels (0..255) before the network; None for nothing.

    Raises:
        RuntimeError: the file looks elsewhere, or longer, than the network does.
    """
    generator, found = torch.Generator().manual_seed(0), []
    for factor in _CHECKED_SIZES:
        size = [round(net.patch * by) for by in factor]
        given = images = torch.randn(1, net.in_channels, *size, generator=generator)
        if prepare is not None:
            given = 255 * given.sigmoid()
            images = prepare(given)
        with net.select("all"):
            net(images)
            middle = net.decisions.confidences[0].nanmedian().expand(net.steps)
        for exits in (net.exits, no_exits(net.steps), middle):
            outputs = running.run(file, {"images": given, "exits": exits})
            _check_looks(net, images, exits, outputs)
            with net.select(_choices(net, outputs)):
                logp = net(images)
            found.append((outputs["logp"] - logp).abs().max() / logp.abs().max().clamp(min=1))
    return float(torch.stack(found).max())  # NaN if one is


def _choices(net: GlanceFocusClassifier, outputs: dict[str, Tensor]) -> FocusChoices:
    corners = torch.full((1, net.steps - 1, 2), -1)
    corners[0, : len(outputs["corners"])] = outputs["corners"]
    return FocusChoices(corners, outputs["steps"])


def _check_looks(
    net: GlanceFocusClassifier, images: Tensor, exits: Tensor, outputs: dict[str, Tensor]
) -> None:
    own = net.exits.clone()
    net.exits.copy_(exits)
    net(images)
    net.exits.copy_(own)
    wanted, found = net.decisions.choices(), _choices(net, outputs)
    common = min(int(wanted.steps), int(found.steps)) - 1
    other = (wanted.corners - found.corners)[:, :common].abs()
    # What is all but undecided may fall on either side: a pixel, or an exit that is just reached.
    confidence = net.decisions.confidences[0, common]
    near = bool(abs(confidence - exits[common]) < 1e-4)
    if (len(other[0]) and int(other[0, 0].max()) > 1) or (
        int(wanted.steps) != int(found.steps) and not near and not bool(other.any())
    ):
        raise RuntimeError(
            f"the exported file looks at {found.corners[0].tolist()}, the network at "
            f"{wanted.corners[0].tolist()}"
        )
