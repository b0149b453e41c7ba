"""What the kernels compute, in plain PyTorch on any device: gathered rows and matrix products."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dynbackbones.kernels.geometry import Geometry


def to_rows(source: Tensor, weight: Tensor, bias: Tensor, where: Geometry) -> Tensor:
    """See `dynbackbones.kernels.operators.to_rows`."""
    groups, total = where.cells.shape
    rows = source.new_zeros(groups, total * where.area, len(weight) // groups)
    for group in range(groups):
        values = _convolved(source, weight, bias, where, group).relu()
        rows[group, : len(values)] = values
    return rows


def add_(out: Tensor, rows: Tensor, weight: Tensor, bias: Tensor, where: Geometry) -> None:
    """See `dynbackbones.kernels.operators.add_`."""
    groups = len(where.counts)
    for group in range(groups):
        values = _convolved(rows, weight, bias, where, group)
        image, y, x, inside = _pixels(where, group)
        place = image[inside], y[inside], x[inside]
        own = _of_group(out, group, groups)
        values = values[inside] + own[place]
        own[place] = values.relu() if where.relu else values


def finish_(
    out: Tensor,
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight_1x1: Tensor,
    bias_1x1: Tensor,
    where: Geometry,
) -> None:
    """See `dynbackbones.kernels.operators.finish_`."""
    hidden = to_rows(rows, weight, bias, where)
    add_(out, hidden, weight_1x1, bias_1x1, where._replace(stride=1, source_size=where.size))


def blend_(out: Tensor, base: Tensor, base_weight: Tensor, weight: Tensor, scale: int) -> None:
    """See `dynbackbones.kernels.operators.blend_`."""
    large = F.interpolate(base, scale_factor=scale)[..., : out.shape[2], : out.shape[3]]
    values = base_weight[..., None, None] * large + weight[..., None, None] * out
    out.copy_(values.relu())


def _convolved(
    source: Tensor, weight: Tensor, bias: Tensor, where: Geometry, group: int
) -> Tensor:
    """(rows, C_out / G) of a group."""
    groups = len(where.counts)
    matrix = weight.flatten(1).chunk(groups)[group]
    image, y, x, inside = _pixels(where, group)
    if source.dim() == 3 and weight.shape[1] == 1:
        values = source[group, : len(image)]
    else:
        values = _neighbourhood(source, weight.shape[1], where, group)
    return F.linear(values, matrix, bias.to(values.dtype).chunk(groups)[group])


def _neighbourhood(source: Tensor, taps: int, where: Geometry, group: int) -> Tensor:
    """(rows, taps * C / G) values around each row; of nine, 0 where they are not selected."""
    groups, size = len(where.counts), where.cell_size
    height, width = where.source_size
    image, y, x, inside = _pixels(where, group)
    of_map = _of_group(source, group, groups) if source.dim() == 4 else None
    parts = []
    for tap in [4] if taps == 1 else range(9):
        near_y = y * where.stride + (tap // 3 - 1) * where.dilation
        near_x = x * where.stride + (tap % 3 - 1) * where.dilation
        there = inside & (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
        near_y, near_x = near_y.clamp(0, height - 1), near_x.clamp(0, width - 1)
        slot = where.slots[group][image, near_y // size, near_x // size].long()
        if taps == 9:
            there = there & (slot >= 0)
        if of_map is not None:
            values = of_map[image, near_y, near_x]
        else:
            row = slot.clamp(min=0) * size**2 + near_y % size * size + near_x % size
            values = source[group, row]
        parts.append(torch.where(there[:, None], values, 0))
    return torch.cat(parts, dim=1)


def _pixels(where: Geometry, group: int) -> tuple[Tensor, ...]:
    """Image, line and column of a group's rows, and whether there is such a pixel."""
    height, width = where.size
    grid_rows, columns = where.grid
    area, count = where.area, int(where.counts[group])
    cell = where.cells[group, :count].long().repeat_interleave(area)
    within = torch.arange(area, device=cell.device).repeat(count)
    image, cell = cell // (grid_rows * columns), cell % (grid_rows * columns)
    y = cell // columns * where.cell_size + within // where.cell_size
    x = cell % columns * where.cell_size + within % where.cell_size
    return image, y, x, (y < height) & (x < width)


def _of_group(x: Tensor, group: int, groups: int) -> Tensor:
    """(N, H, W, C / G), a view."""
    return x.permute(0, 2, 3, 1).chunk(groups, dim=3)[group]
