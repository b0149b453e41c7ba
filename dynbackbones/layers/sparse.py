"""Patch-sparse execution of a residual branch: only the selected pixels are computed.

The selected pixels of all images and channel groups are gathered once into compact rows. 1x1
convolutions are matrix products on these rows; a 3x3 convolution first collects its nine
neighbours through an index table in which every pixel that is not selected points at one row of
zeros, as the mask in front of the convolution demands. The result is added to the shortcut at the
selected pixels and written back there; nothing else of the feature map is touched.

A 3x3 convolution in more groups than there are masks (ResNeXt's, depthwise ones) is an exception:
it costs little next to its 1x1 convolutions, and as products of small matrices more than on a whole
map. So the rows are put into a map of zeros, convolved there, and taken out again.

Shapes: N images, B blocks, G channel groups, H x W pixels, P selected (group, image, pixel)
triples of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.layers.norm import fold_norm
from dynbackbones.layers.residual import ResidualBlock

CHUNK = 2**19
"""Values that are gathered at a time: 2 MiB."""


@dataclass(frozen=True)
class SelectedPixels:
    """Index tables of one block's mask.

    Attributes:
        rows: (P,) index of each selected pixel in a feature map viewed as
            (N * H * W * G, channels / G), ordered by group.
        counts: selected pixels of each group; they sum to P.
        neighbours: (P, 9) index of each pixel's 3x3 neighbourhood into the P rows with a row of
            zeros before them: 0 is a neighbour that is not selected or outside the map.
        size: N, H and W.
    """

    rows: Tensor
    counts: list[int]
    neighbours: Tensor
    size: tuple[int, int, int]

    @cached_property
    def slots(self) -> Tensor:
        """(P,) index of each pixel where the groups are padded to the length of the longest."""
        groups = len(self.counts)
        group = self.rows % groups
        counts = torch.tensor(self.counts, device=self.rows.device)
        starts = counts.cumsum(0) - counts
        position = torch.arange(len(self.rows), device=self.rows.device) - starts[group]
        return group * max(self.counts) + position

    def parts(self, width: int) -> list[tuple[int | None, slice]]:
        """Groups and ranges of pixels that are computed at a time.

        On a CPU their gathered values stay in a core's cache; elsewhere all groups (None) are one
        part, since launching kernels takes time.

        Args:
            width: values that are gathered for a pixel.
        """
        if self.rows.device.type != "cpu":
            return [(None, slice(0, len(self.rows)))]
        # Where gradients are computed every part would copy the feature map.
        length = len(self.rows) + 1 if torch.is_grad_enabled() else max(CHUNK // width, 64)
        parts, start = [], 0
        for group, count in enumerate(self.counts):
            stop = start + count
            parts += [(group, slice(i, min(i + length, stop))) for i in range(start, stop, length)]
            start = stop
        return parts

    @classmethod
    def from_mask(cls, mask: Tensor, dilation: int = 1) -> "SelectedPixels":
        """The tables of a bool mask (N, G, H, W) for 3x3 kernels of this dilation."""
        (tables,) = cls.from_masks(mask.unsqueeze(1), dilation)
        return tables

    @classmethod
    def for_blocks(cls, blocks: Sequence[ResidualBlock], masks: Tensor) -> list["SelectedPixels"]:
        """The tables of blocks of one kind and dilation; masks as for `from_masks`."""
        around = any(
            conv.kernel_size == (3, 3) and conv.groups == blocks[0].groups
            for conv, _ in blocks[0].residual_layers()
        )
        return cls.from_masks(masks, blocks[0].dilation, neighbours=around)

    @classmethod
    def from_masks(
        cls, masks: Tensor, dilation: int = 1, neighbours: bool = True
    ) -> list["SelectedPixels"]:
        """The tables of all blocks of a stage: bool masks (N, B, G, H, W) to B tables.

        Args:
            masks: see above.
            dilation: of 3x3 kernels.
            neighbours: whether any convolution asks for them; the table is empty else.
        """
        n, blocks, groups, height, width = masks.shape
        masks = masks.permute(1, 2, 0, 3, 4)
        # One transfer from the device for all blocks.
        counts = masks.sum(dim=(2, 3, 4)).tolist()
        sizes = [sum(block) for block in counts]
        pixel = n * height * width
        place = masks.reshape(-1).nonzero().squeeze(1)
        rows = place % pixel * groups + place // pixel % groups
        size = n, height, width
        if not neighbours:
            none = rows.new_empty(0, 9)
            return [cls(*part, none, size) for part in zip(rows.split(sizes), counts, strict=True)]

        line, x = place // width, place % width
        padded = width + 2 * dilation
        centre = (line + (line // height * 2 + 1) * dilation) * padded + x + dilation
        lines = blocks * groups * n * (height + 2 * dilation)
        slots = torch.zeros(lines * padded, dtype=torch.long, device=masks.device)
        for part in centre.split(sizes):
            slots[part] = torch.arange(1, len(part) + 1, device=masks.device)
        steps = torch.arange(-1, 2, device=masks.device) * dilation
        offsets = (steps.unsqueeze(1) * padded + steps).flatten()
        near = centre.unsqueeze(1) + offsets
        neighbours = slots.index_select(0, near.flatten()).view_as(near)
        parts = zip(rows.split(sizes), counts, neighbours.split(sizes), strict=True)
        return [cls(*part, size) for part in parts]


def sparse_forward(
    block: ResidualBlock, x: Tensor, pixels: SelectedPixels, *, in_place: bool = False
) -> Tensor:
    """What ``block(x, mask)`` gives, computing the residual branch at selected pixels only.

    Args:
        block: with stride 1; its norm layers must have fixed statistics.
        x: (N, in_channels, H, W).
        pixels: tables of the block's mask.
        in_place: overwrite ``x`` where no gradients are computed. Only for a block whose shortcut
            is the identity, and an ``x`` that is channels-last and, if the block ends with a ReLU,
            not negative.

    Returns:
        (N, out_channels, H, W), channels-last in memory.

    Raises:
        ValueError: a norm layer of the block keeps no running statistics.
    """
    n, _, height, width = x.shape
    flat = x.permute(0, 2, 3, 1).contiguous().view(-1, block.in_channels // block.groups)
    if in_place:
        out = flat
    else:
        shortcut = block.shortcut(x).permute(0, 2, 3, 1)
        # A copy also where the shortcut is the input itself, which the caller may still need.
        out = (
            shortcut.contiguous()
            if block.downsample is not None
            else shortcut.clone(memory_format=torch.contiguous_format)
        ).view(-1, block.out_channels // block.groups)
    native = block.native_rows
    if native is not None and native.fits(x):
        native.add(flat, out, pixels, relu=block.final_relu and in_place)
    else:
        out = _add(block, flat, out, pixels, in_place)
    if block.final_relu and not in_place:
        out = block.relu(out)
    return out.view(n, height, width, block.out_channels).permute(0, 3, 1, 2)


def _add(
    block: ResidualBlock, flat: Tensor, out: Tensor, pixels: SelectedPixels, in_place: bool
) -> Tensor:
    """``out`` with the residual branch added to it at the selected pixels."""
    *first, last = steps_of(block)
    rows = None
    for step in first:
        rows = step.collect(flat, rows, pixels)
    for group, part in pixels.parts(last.width):
        result = last.run(flat, rows, pixels, group, part)
        place = pixels.rows[part]
        result = result.add_(out.index_select(0, place))
        if block.final_relu and in_place:
            result = block.relu(result)
        # Gradients need what they have saved as it was.
        write = torch.Tensor.index_copy if torch.is_grad_enabled() else torch.Tensor.index_copy_
        out = write(out, 0, place, result.to(out.dtype))
    return out


@dataclass(frozen=True)
class Step:
    """Layers that compute one row each without looking at others, but for the first layer.

    Attributes:
        weights: of each layer the matrices of its groups.
        biases: likewise.
        neighbours: whether the first layer is a 3x3 convolution.
        relu: the activation, in place.
        ends: whether none follows the last layer.
        width: values that are gathered for a row.
    """

    weights: list[tuple[Tensor, ...]]
    biases: list[tuple[Tensor, ...]]
    neighbours: bool
    relu: nn.Module
    ends: bool
    width: int

    def run(
        self,
        flat: Tensor,
        rows: Tensor | None,
        pixels: SelectedPixels,
        group: int | None,
        part: slice,
    ) -> Tensor:
        """The layers' result for some pixels of one group, or for all pixels of all groups.

        Args:
            flat: see `_add`.
            rows: (1 + P, c) what the step before has collected; None for the first step.
            pixels: tables of the mask.
            group, part: of `SelectedPixels.parts`.
        """
        if self.neighbours:
            result = rows.index_select(0, pixels.neighbours[part].flatten())
            result = result.view(-1, self.width)
        elif rows is None:
            result = flat.index_select(0, pixels.rows[part])
        else:
            result = rows[1:][part] if self.weights else rows[1:][part].clone()
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if group is None:
                result = _product_of_groups(result, weight, bias, pixels)
            else:
                result = F.linear(result, weight[group], bias[group])
            if not self.ends or index < len(self.weights) - 1:
                result = self.relu(result)
        return result

    def collect(self, flat: Tensor, rows: Tensor | None, pixels: SelectedPixels) -> Tensor:
        """The layers' results for all pixels, with a row of zeros before them."""
        parts = [self.run(flat, rows, pixels, *part) for part in pixels.parts(self.width)]
        width = self.weights[-1][0].shape[0] if self.weights else self.width
        return torch.cat([flat.new_zeros(1, width), *parts])


@dataclass(frozen=True)
class MapStep:
    """A 3x3 convolution in more groups than there are masks, on a map.

    Attributes:
        weight, bias: of the convolution.
        dilation, groups: likewise.
        relu: the activation, in place; None where none follows.
    """

    weight: Tensor
    bias: Tensor
    dilation: int
    groups: int
    relu: nn.Module | None

    def collect(self, flat: Tensor, rows: Tensor, pixels: SelectedPixels) -> Tensor:
        """The layer's results for all pixels, with a row of zeros before them."""
        n, height, width = pixels.size
        masks = len(pixels.counts)
        maps = rows.new_zeros(n * height * width * masks, rows.shape[1])
        maps = maps.index_copy(0, pixels.rows, rows[1:])
        maps = maps.view(n, height, width, -1).permute(0, 3, 1, 2)
        weight, bias = self.weight.to(rows.dtype), self.bias.to(rows.dtype)
        how = {"padding": self.dilation, "dilation": self.dilation, "groups": self.groups}
        out = F.conv2d(maps, weight, bias, **how).permute(0, 2, 3, 1)
        out = out.reshape(-1, out.shape[-1] // masks).index_select(0, pixels.rows)
        out = out if self.relu is None else self.relu(out)
        return torch.cat([out.new_zeros(1, out.shape[1]), out])


def _product_of_groups(
    rows: Tensor, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...], pixels: SelectedPixels
) -> Tensor:
    """One product for all groups, whose rows are padded to the longest."""
    if len(weights) == 1 or not len(rows):
        return F.linear(rows, weights[0], biases[0])
    padded = rows.new_zeros(len(weights) * max(pixels.counts), rows.shape[1])
    padded = padded.index_copy(0, pixels.slots, rows).view(len(weights), -1, rows.shape[1])
    bias, weight = torch.stack(biases).unsqueeze(1), torch.stack(weights).transpose(1, 2)
    return torch.baddbmm(bias, padded, weight).flatten(0, 1).index_select(0, pixels.slots)


def steps_of(block: ResidualBlock) -> list[Step | MapStep]:
    """A block's layers, cut before each 3x3 convolution, whose input must be complete."""
    layers = block.residual_layers()
    cuts = [i for i, (conv, _) in enumerate(layers) if conv.kernel_size == (3, 3)]
    steps: list[Step | MapStep] = []
    for start, stop in zip([0, *cuts], [*cuts, len(layers)], strict=True):
        neighbours = start in cuts and stop > start
        if neighbours and layers[start][0].groups != block.groups:
            steps.append(_map_step(block, start))
            start, neighbours = start + 1, False
            if start == stop < len(layers):
                continue
        weights, biases = [], []
        for conv, norm in layers[start:stop]:
            weight, bias = fold_norm(conv, norm)
            # The order of gathered neighbours; no copy if the weight is channels-last.
            weights.append(weight.permute(0, 2, 3, 1).flatten(1).chunk(conv.groups))
            biases.append(bias.chunk(conv.groups))
        before = layers[start - 1][0].out_channels if start else block.in_channels
        width = weights[0][0].shape[1] if weights else before // block.groups
        steps.append(Step(weights, biases, neighbours, block.relu, stop == len(layers), width))
    return steps


def _map_step(block: ResidualBlock, index: int) -> MapStep:
    layers = block.residual_layers()
    conv, norm = layers[index]
    relu = None if index == len(layers) - 1 else block.relu
    return MapStep(*fold_norm(conv, norm), conv.dilation[0], conv.groups, relu)
