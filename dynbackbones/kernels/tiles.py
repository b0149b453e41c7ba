"""Sizes of the tiles that the Triton programs compute: measured ahead, or on the user's card."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    """How a program divides its work.

    Attributes:
        rows: that it computes.
        columns: output channels at a time.
        inputs: input channels at a time.
        warps, stages: of Triton.
    """

    rows: int
    columns: int
    inputs: int
    warps: int
    stages: int


class Work(NamedTuple):
    """What a program computes.

    Attributes:
        kind: ``"1x1"`` or ``"3x3"`` (to rows), ``"1x1 add"`` or ``"3x3 add"`` (to a map), or
            ``"finish"`` (both, one after the other, to a map).
        channels: of a group's input.
        width: of its output.
        dtype: of the map.
    """

    kind: str
    channels: int
    width: int
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """As in files."""
        return f"{self.kind} {self.channels} {self.width} {str(self.dtype).split('.')[1]}"


def default_tile(work: Work) -> Tile:
    """A tile for any card: the fastest, or nearly, of all sizes in float16 on an H200."""
    rows, inputs, stages = 128, 64, 3
    if work.dtype == torch.float32:
        rows, inputs, stages = 64, 32, 2
    elif work.kind == "finish" and work.channels <= 64:
        stages = 5
    columns = 128 if work.kind in ("1x1", "3x3") else 64
    return Tile(rows, columns, inputs, 4, stages)


def candidates(work: Work) -> list[Tile]:
    """Tiles worth trying."""
    inputs = 32 if work.channels <= 32 or work.dtype == torch.float32 else 64
    stages = [1, 3, 5] if work.kind == "finish" else [3, 4]
    tried = product([64, 128], [64, 128], stages, [4, 8])
    return [Tile(rows, columns, inputs, warps, s) for rows, columns, s, warps in tried]


_tuning = False


def run_in_tiles(work: Work, x: Tensor, run: Callable[[Tile], object]) -> None:
    """Runs a program in the tile that is best for its work, as far as is known.

    Args:
        work: what it computes.
        x: a tensor of the device that computes it.
        run: starts it.
    """
    if x.device.type != "cuda":
        run(default_tile(work))
        return
    known = _tuned(torch.cuda.get_device_name(x.device))
    if _tuning and work.name not in known:
        known[work.name] = _fastest(work, run)
    run(known.get(work.name) or default_tile(work))


@contextmanager
def tuning() -> Iterator[None]:
    """Forward passes inside try tiles, and leave the fastest in a file for this card.

    What such a pass returns means nothing. Later ones, in other processes too, use what was found;
    deleting the file (its name is logged) forgets it.

    Example:
        >>> from dynbackbones.kernels.tiles import tuning
        >>> with tuning():
        ...     pass  # net(images)
    """
    global _tuning
    _tuning = True
    try:
        yield
    finally:
        _tuning = False
        if torch.cuda.is_available():
            _write(torch.cuda.get_device_name())


def _fastest(work: Work, run: Callable[[Tile], object]) -> Tile:
    # Without a graph the time of small kernels is that of starting them.
    from triton.testing import do_bench_cudagraph

    times = {}
    for tile in candidates(work):
        try:
            times[tile] = do_bench_cudagraph(lambda tile=tile: run(tile), rep=4)
        except Exception as error:  # it needs more of something than the card has
            logging.getLogger("dynbackbones").debug(f"{work.name} in {tile}: {error}")
    return min(times, key=times.get)


def cache_folder() -> Path:
    """Where what was measured on this machine is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dynbackbones"


def _file(card: str) -> Path:
    return cache_folder() / f"tiles-{card.replace(' ', '-')}.json"


@cache
def _tuned(card: str) -> dict[str, Tile]:
    """What was found for a card, by name of the work."""
    try:
        known = json.loads(_file(card).read_text(encoding="utf-8"))
        return {name: Tile(*map(int, tile)) for name, tile in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logging.getLogger("dynbackbones").warning(f"{_file(card)} is not used: {error}")
        return {}


def _write(card: str) -> None:
    file = _file(card)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(_tuned(card), indent=1), encoding="utf-8")
    part.replace(file)
    logging.getLogger("dynbackbones").info(f"tiles of {card} are in {file}")
