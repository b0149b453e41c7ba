"""What happens to an image before a network sees it, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from onnx import TensorProto

from dynbackbones.export.graph import Graph


def size_of(graph: Graph, images: str) -> str:
    """Height and width of (N, C, H, W), as (2,) int64."""
    shape = graph.node("Shape", images)
    return graph.node("Slice", shape, graph.weight([2]), graph.weight([4]))


def _resized(graph: Graph, images: str, size: str) -> str:
    """(N, C, H, W) of images with another (2,) size, as (4,) int64."""
    shape = graph.node("Shape", images)
    leading = graph.node("Slice", shape, graph.weight([0]), graph.weight([2]))
    return graph.node("Concat", leading, size, axis=0)


def resize(graph: Graph, images: str, size: str) -> str:
    """Images resized to (2,) int64, bilinear and smoothed as PyTorch and Pillow do."""
    return graph.node(
        "Resize",
        images,
        "",
        "",
        _resized(graph, images, size),
        mode="linear",
        antialias=1,
        exclude_outside=1,  # weights beyond the border count nowhere
        coordinate_transformation_mode="half_pixel",
    )


def within(graph: Graph, size: str, short: int, long: int) -> str:
    """The size that a wanted short side gives, or a largest long one, rounded as detectron2 does.

    Args:
        graph: where the nodes go.
        size: (2,) int64.
        short: wanted length of the short side.
        long: upper limit of the long side, which prevails.
    """
    # Like Python's numbers, or some sizes come out a pixel larger or smaller.
    exact = graph.node("Cast", size, to=TensorProto.DOUBLE)
    scales = [
        graph.node("Div", graph.double(length), graph.node(kind, exact, keepdims=1))
        for length, kind in ((short, "ReduceMin"), (long, "ReduceMax"))
    ]
    scaled = graph.node("Mul", exact, graph.node("Min", *scales))
    rounded = graph.node("Floor", graph.node("Add", scaled, graph.double(0.5)))
    lengths = graph.node("Cast", rounded, to=TensorProto.INT64)
    return graph.node("Max", lengths, graph.weight([1, 1]))


def pixels_in(graph: Graph, short: int, long: int) -> tuple[str, str, str]:
    """Declares the input ``image``, uint8 (3, H, W), and resizes it.

    Args:
        graph: where the nodes go.
        short, long: see `within`; a ``short`` of 0 keeps the size.

    Returns:
        The image, (1, 3, h, w) uint8, and its sizes before and after.
    """
    image = graph.input("image", (3, "height", "width"), kind="uint8")
    pixels = graph.node("Unsqueeze", image, graph.weight([0]))
    original = size = size_of(graph, pixels)
    if short:
        size = within(graph, original, short, long)
        pixels = resize(graph, pixels, size)
    return pixels, original, size


def interpolate(graph: Graph, x: str, size: str, align_corners: bool) -> str:
    """Maps resized to (2,) int64, bilinear and not smoothed, as `F.interpolate` does it."""
    size = _resized(graph, x, size)
    way = "align_corners" if align_corners else "half_pixel"
    return graph.node(
        "Resize", x, "", "", size, mode="linear", coordinate_transformation_mode=way
    )


def grown(graph: Graph, x: str, other: str) -> str:
    """A map as large as another, to the nearest pixel."""
    size = _resized(graph, x, size_of(graph, other))
    way = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.node("Resize", x, "", "", size, mode="nearest", **way)


def normalize(graph: Graph, images: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Images of any type as float32, less their channels' mean, over their deviation."""
    mean, std = (graph.weight(torch.tensor(v).float().view(-1, 1, 1)) for v in (mean, std))
    images = graph.node("Cast", images, to=TensorProto.FLOAT)
    return graph.node("Div", graph.node("Sub", images, mean), std)


def pad_to_multiple(graph: Graph, images: str, divisor: int) -> str:
    """Images with zeros below and at the right, up to whole multiples of ``divisor``."""
    size, whole = size_of(graph, images), graph.weight(np.int64(divisor))
    # The remainder of what is below zero is what lacks.
    lacking = graph.node("Mod", graph.node("Neg", size), whole)
    none = graph.weight([0, 0, 0, 0, 0, 0])
    return graph.node("Pad", images, graph.node("Concat", none, lacking, axis=0))
