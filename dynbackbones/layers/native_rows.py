"""Rows of selected pixels on CPUs by a small C++ extension, in one pass over a core's cache.

The eager form writes every gathered neighbourhood and every intermediate result to memory. The
extension gathers 64 rows at a time, multiplies them by oneDNN's batch-reduce kernels, which PyTorch
exposes to C++, and adds the result to the feature map in place. It is built on the machine, once,
and never needed: without it the eager form runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dynbackbones.layers.residual import ResidualBlock
from dynbackbones.layers.sparse import SelectedPixels, Step, steps_of
from dynbackbones.layers.tracing import is_traced

SOURCE = Path(__file__).with_name("rows.cpp")
DTYPES = (torch.float32, torch.bfloat16)


@cache
def extension() -> ModuleType | None:
    """The extension, built at the first call; None where that is not possible, with a warning.

    Building takes a minute, a C++ compiler and ninja; what was built is kept where PyTorch keeps
    extensions (``TORCH_EXTENSIONS_DIR``).
    """
    try:
        from torch.utils.cpp_extension import load

        flags = ["-O3", "-march=native", "-fopenmp"]
        with _ninja_in_path():
            built = load("dynbackbones_rows", [str(SOURCE)], extra_cflags=flags)
        computed_types(built)
    except Exception as error:  # whatever a machine lacks
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        logging.getLogger("dynbackbones").warning(
            "selected pixels are computed without the C++ extension, which could not be built or "
            f"does not run here ({type(error).__name__}: {lines[0] if lines else ''}); it needs a "
            "C++ compiler, ninja (pip install ninja) and AVX2"
        )
        return None
    return built


@contextmanager
def _ninja_in_path() -> Iterator[None]:
    """PyTorch calls the command, which a virtual environment has only where it is activated."""
    before = os.environ.get("PATH", "")
    if importlib.util.find_spec("ninja") is not None:
        os.environ["PATH"] = os.pathsep.join([importlib.import_module("ninja").BIN_DIR, before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


@cache
def computed_types(built: ModuleType) -> tuple[torch.dtype, ...]:
    """The types that the extension computes on this processor, float32 among them.

    Runs it once in each: oneDNN has no kernels in bfloat16 for processors without AVX-512.

    Raises:
        RuntimeError: it does not run in float32, or computes wrongly.
    """
    return tuple(dtype for dtype in DTYPES if _computes(built, dtype))


def _computes(built: ModuleType, dtype: torch.dtype) -> bool:
    source, index = torch.ones(1, 16, dtype=dtype), torch.zeros(1, 1, dtype=torch.long)
    target = torch.zeros(1, 16, dtype=dtype)
    weight = packed_weight(torch.ones(16, 16, dtype=dtype))
    try:
        built.rows(source, index, [weight], [torch.zeros(16)], [16], target, None, 0, True)
    except RuntimeError:
        if dtype == torch.float32:
            raise
        return False
    if not (target == 16).all():
        raise RuntimeError(f"it computes wrongly in {dtype}")
    return True


def packed_weight(weight: Tensor) -> Tensor:
    """A matrix (out, in) as the kernels read it: (in, out), in bfloat16 with pairs of inputs."""
    weight = weight.t()
    if weight.dtype == torch.float32:
        return weight.contiguous()
    inputs, outputs = weight.shape
    return weight.reshape(inputs // 2, 2, outputs).transpose(1, 2).contiguous()


class NativeLayers:
    """Layers that compute a row each, one behind the other with ReLUs between, for each group.

    Args:
        weights: of each layer the (out, in) matrices of its groups.
        biases: likewise (out,).
    """

    def __init__(
        self, weights: list[tuple[Tensor, ...]], biases: list[tuple[Tensor, ...]]
    ) -> None:
        groups = range(len(weights[0]))
        self._weights = [[packed_weight(layer[g]) for layer in weights] for g in groups]
        self._biases = [[layer[g].float().contiguous() for layer in biases] for g in groups]
        self._widths = [len(layer[0]) for layer in weights]

    def run(
        self,
        group: int,
        source: Tensor,
        index: Tensor,
        target: Tensor,
        *,
        place: Tensor | None = None,
        offset: int = 0,
        relu: bool = False,
    ) -> None:
        """Computes rows of a group and writes them into a target.

        Args:
            group: whose weights.
            source: (R, c).
            index: (P, taps) int64, the rows of the source that make each row's input.
            target: (S, out), changed in place.
            place: (P,) rows of the target that the results are added to; by default they are
                written from ``offset`` on.
            offset: see ``place``.
            relu: apply a ReLU at the end.
        """
        extension().rows(
            source,
            index.contiguous(),
            self._weights[group],
            self._biases[group],
            self._widths,
            target,
            place,
            offset,
            relu,
        )


class NativeRows:
    """Adds a block's residual branch to its shortcut at selected pixels, by the extension.

    Args:
        block: whose norm layers have fixed statistics. Loading other weights changes nothing here.
    """

    def __init__(self, block: ResidualBlock) -> None:
        self._block = block
        self._steps: dict[torch.dtype, list[tuple[Step, NativeLayers | None]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_steps": {}}

    def fits(self, x: Tensor) -> bool:
        """Whether the extension computes this input: on a CPU, in its types, without gradients.

        Others are computed by PyTorch's operators.
        """
        plain = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or is_traced())
        if not plain or x.device.type != "cpu" or not can_compute(self._block):
            return False
        built = extension()
        return built is not None and x.dtype in computed_types(built)

    def add(
        self, flat: Tensor, out: Tensor, pixels: SelectedPixels, *, relu: bool
    ) -> None:
        """Changes ``out`` in place.

        Args:
            flat: (N * H * W * G, in_channels / G).
            out: (N * H * W * G, out_channels / G).
            pixels: tables of the mask.
            relu: apply a ReLU where something is added.
        """
        ends = list(itertools.accumulate(pixels.counts, initial=0))
        source = flat
        for step, layers in self._layers(flat.dtype):
            # A row of zeros before them stands for what is not selected.
            if layers is None:
                rows = flat.index_select(0, pixels.rows)
                source = torch.cat([flat.new_zeros(1, step.width), rows])
                continue
            index = pixels.neighbours if step.neighbours else pixels.rows.unsqueeze(1)
            target = out
            if not step.ends:
                target = flat.new_empty(len(pixels.rows) + 1, len(step.weights[-1][0]))
                target[0] = 0
            for group, (start, stop) in enumerate(itertools.pairwise(ends)):
                part = slice(start, stop)
                where = {"place": pixels.rows[part], "relu": relu}
                if not step.ends:
                    where = {"offset": 1 + start, "relu": True}
                layers.run(group, source, index[part], target, **where)
            source = target

    def _layers(self, dtype: torch.dtype) -> list[tuple[Step, NativeLayers | None]]:
        if dtype not in self._steps:
            found = []
            for step in steps_of(self._block):
                weights = [tuple(one.to(dtype) for one in layer) for layer in step.weights]
                found.append((step, NativeLayers(weights, step.biases) if weights else None))
            self._steps[dtype] = found
        return self._steps[dtype]


def can_compute(block: ResidualBlock) -> bool:
    """Whether a block is made of what the extension knows.

    That is a plain one whose inputs come in pairs, as the kernels read bfloat16.
    """
    pairs = all(conv.weight.shape[1] % 2 == 0 for conv, _ in block.residual_layers())
    return pairs and block.is_plain
