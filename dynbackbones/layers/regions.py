"""Region selector and region grid: which cells of a feature map are refined, and their pixels.

Shapes: N images, C channels, G channel groups, R x S cells of an H x W feature map. A base branch
sees the same map at ``scale`` times lower resolution. Sizes without an axis for images (N = 1)
broadcast over a batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.layers.convolutions import conv3x3
from dynbackbones.layers.gumbel import gumbel_select
from dynbackbones.layers.norm import NormLayer


def averaging_weights(lower: Tensor, upper: Tensor, length: int) -> Tensor:
    """Rows that average the entries [lower, upper) of an axis.

    Args:
        lower, upper: (...) integer bounds; an empty range gives a row of zeros.
        length: of the axis.

    Returns:
        (..., length) float32.
    """
    index = torch.arange(length, device=lower.device)
    inside = (index >= lower.unsqueeze(-1)) & (index < upper.unsqueeze(-1))
    return inside.float() / inside.sum(-1, keepdim=True).clamp(min=1)


class RegionGrid:
    """Cells of a feature map, and what of them lies inside the images of a padded batch.

    A cell at the lower or right border is smaller where the cells do not divide the map.

    Args:
        size: (H, W) of the feature map in pixels.
        cell_size: edge of the square cells in feature pixels; or
        grid_size: K for a grid of K x K cells (SAR, III-A.2).
        valid_sizes: (N, 2) integers, height and width of each image in feature pixels where the
            batch is padded.
        device: where the tensors live.

    Attributes:
        padded: whether ``valid_sizes`` were given.
        row_edges, col_edges: (R + 1,) and (S + 1,) borders of the cells in feature pixels.
        areas: (N or 1, R, S) pixels of each cell that lie inside the image.
        valid: (N or 1, R, S) whether any do.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        cell_size: int | None = None,
        grid_size: int | None = None,
        valid_sizes: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size = (int(size[0]), int(size[1]))
        self.row_edges, self.col_edges = (
            _edges(length, cell_size, grid_size, device) for length in self.size
        )
        self.padded = valid_sizes is not None
        # Nothing is copied to the device, which a CUDA graph could not contain.
        ends = torch.stack([self.row_edges[-1], self.col_edges[-1]]).unsqueeze(0)
        self.valid_sizes = valid_sizes.to(device) if self.padded else ends
        heights, widths = (
            self._clipped(edges, axis).diff(dim=1)
            for axis, edges in enumerate((self.row_edges, self.col_edges))
        )
        self.areas = heights.unsqueeze(2) * widths.unsqueeze(1)
        self.valid = self.areas > 0
        self._cell_size = cell_size
        # All selectors of a stage pool with the same weights.
        self._pooling: dict[int, list[Tensor]] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """(R, S), the number of rows and columns of cells."""
        return len(self.row_edges) - 1, len(self.col_edges) - 1

    def _clipped(self, edges: Tensor, axis: int) -> Tensor:
        return torch.minimum(edges, self.valid_sizes[:, axis : axis + 1])

    def expand(self, cells: Tensor) -> Tensor:
        """(..., R, S) values of cells to (..., H, W) values of pixels."""
        rows, cols = (
            # Counted, since not every compiler knows torch.bucketize with part of a tensor.
            (torch.arange(length, device=cells.device).unsqueeze(1) >= edges[1:]).sum(dim=1)
            for length, edges in zip(self.size, (self.row_edges, self.col_edges), strict=True)
        )
        return cells.index_select(-2, rows).index_select(-1, cols)

    def spread(self, cells: Tensor) -> Tensor:
        """Gives cells outside an image the values of the nearest ones inside, without gradient.

        Args:
            cells: (N, A, B, R, S).

        Returns:
            The same shape.
        """
        if not self.padded:
            return cells
        spread = cells.detach()
        for axis, other in ((3, 2), (4, 1)):
            last = self.valid.any(dim=other).sum(dim=1, keepdim=True) - 1
            index = torch.arange(cells.shape[axis], device=cells.device)
            index = torch.minimum(index, last)
            shape = [1, 1, 1, 1, 1]
            shape[0], shape[axis] = index.shape
            spread = spread.gather(axis, index.view(shape).expand(cells.shape))
        return torch.where(self.valid[:, None, None], cells, spread)

    def average_pool(self, x: Tensor, scale: int) -> Tensor:
        """Averages exactly the pixels that each cell covers inside its image.

        Args:
            x: (N, C, ceil(H / scale), ceil(W / scale)), a map of ``scale`` times lower resolution.
            scale: feature pixels per pixel of ``x``, along each axis.

        Returns:
            (N, C, R, S); zero for cells outside the image.
        """
        window = self._window(scale)
        if window:
            return F.avg_pool2d(x, window)
        if scale not in self._pooling:
            self._pooling[scale] = [self._pooling_weights(axis, scale) for axis in (0, 1)]
        by_row, by_col = (weights.to(x.dtype) for weights in self._pooling[scale])
        return by_row @ x @ by_col.transpose(-1, -2)

    def _window(self, scale: int) -> int:
        """Edge of every cell in a map of ``scale`` times lower resolution; 0 where they differ."""
        cell = self._cell_size
        tiles = cell and not self.padded and all(length % cell == 0 for length in self.size)
        return cell // scale if tiles and cell % scale == 0 else 0

    def _pooling_weights(self, axis: int, scale: int) -> Tensor:
        """(N or 1, 1, cells, length) along an axis of a map of ``scale`` times lower resolution."""
        clipped = self._clipped((self.row_edges, self.col_edges)[axis], axis)
        lower = clipped[:, :-1] // scale
        upper = -(-clipped[:, 1:] // scale)
        upper = torch.where(clipped[:, 1:] > clipped[:, :-1], upper, lower)
        return averaging_weights(lower, upper, -(-self.size[axis] // scale)).unsqueeze(1)

    def image_mean(self, x: Tensor, scale: int) -> Tensor:
        """Global average pooling over what lies inside each image; arguments of `average_pool`.

        Returns:
            (N, C).
        """
        if not self.padded:
            return x.mean(dim=(2, 3))
        inside = -(-self.valid_sizes // scale)
        start = torch.zeros_like(inside[:, 0])
        by_row = averaging_weights(start, inside[:, 0], x.shape[2]).to(x.dtype)
        by_col = averaging_weights(start, inside[:, 1], x.shape[3]).to(x.dtype)
        return torch.einsum("nh,nchw,nw->nc", by_row, x, by_col)


def _edges(
    length: int, cell_size: int | None, grid_size: int | None, device: torch.device | str
) -> Tensor:
    if (cell_size is None) == (grid_size is None):
        raise ValueError(
            f"give either cell_size or grid_size, got cell_size={cell_size}, grid_size={grid_size}"
        )
    for name, value in (("cell_size", cell_size), ("grid_size", grid_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if cell_size is not None:
        cells = -(-length // cell_size)
        return (torch.arange(cells + 1, device=device) * cell_size).clamp(max=length)
    # Pixel y belongs to cell floor(y K / H), as nearest-neighbour upsampling of a mask has it.
    return -(-torch.arange(grid_size + 1, device=device) * length // grid_size)


def activation_rates(masks: Tensor, valid: Tensor) -> Tensor:
    """Share of regions that are refined (SAR, eq. 7); cells outside the image do not count.

    Args:
        masks: (N, ..., G, R, S), 1 where a region is refined and 0 outside the image.
        valid: (N or 1, R, S) bool, cells inside the image.

    Returns:
        (N, ...) float, differentiable in ``masks``.
    """
    cells = valid.sum(dim=(1, 2)) * masks.shape[-3]
    refined = masks.sum(dim=(-3, -2, -1))
    return refined / cells.clamp(min=1).view(-1, *[1] * (refined.dim() - 1))


class RegionSelector(nn.Module):
    """Decides for each cell and channel group whether it is refined (SAR, III-A.2, eq. 2).

    Args:
        channels: C of the base branch's output.
        groups: G.
        margin: select bias minus skip bias at the start; 9 is the authors' (10 and 1).
        norm: constructor of the norm layer.

    Shape:
        (N, C, H / scale, W / scale) to logits (N, G, R, S, 2): "skip" and "select".

    Attributes:
        threshold: in evaluation a cell is selected where its logit difference exceeds this
            buffer; 0 is the argmax. Set by `dynbackbones.calibrate`.
    """

    hidden = 4
    """Channels per group between the two convolutions (the authors' code; the paper says none)."""

    def __init__(
        self, channels: int, groups: int, margin: float = 9.0, norm: NormLayer = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(
                f"groups={groups} does not divide the {channels} channels of the base branch"
            )
        self.groups = groups
        self.margin = margin
        self.conv = conv3x3(channels, self.hidden * groups, groups=groups)
        self.bn = norm(self.hidden * groups)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Conv2d(self.hidden * groups, 2 * groups, 1, groups=groups)
        self.register_buffer("threshold", torch.zeros(()))
        self.reset_bias()

    def reset_bias(self) -> None:
        """Biases that select everything at the start (SAR, III-C.3)."""
        with torch.no_grad():
            self.fc.bias.fill_(1.0)
            self.fc.bias[1::2] += self.margin

    def forward(self, base: Tensor, grid: RegionGrid, scale: int) -> Tensor:
        pooled = grid.average_pool(self.relu(self.bn(self.conv(base))), scale)
        logits = self.fc(pooled)
        n, _, rows, cols = logits.shape
        return logits.view(n, self.groups, 2, rows, cols).movedim(2, -1)

    def sample(self, logits: Tensor, temperature: float) -> Tensor:
        """Straight-through samples for training: (N, G, R, S, 2) to (N, G, R, S) of 0 and 1."""
        return gumbel_select(logits, temperature)

    def decide(self, logits: Tensor) -> Tensor:
        """Deterministic decisions for evaluation: (N, G, R, S, 2) to bool (N, G, R, S).

        NaN selects: skipping would look like a decision that saves.
        """
        return ~((logits[..., 1] - logits[..., 0]).float() <= self.threshold)

    def macs(self, height: int, width: int, cells: int) -> int:
        """Multiply-accumulates for a base map of this size in pixels and a number of cells."""
        return self.conv.weight.numel() * height * width + self.fc.weight.numel() * cells
