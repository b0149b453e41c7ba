"""Stages of residual blocks that each image can leave out."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, distributed, nn

from dynbackbones.kernels.blocks import add_residual_
from dynbackbones.kernels.cells import SelectedCells
from dynbackbones.layers.checkpointing import run_checkpointed
from dynbackbones.layers.convolutions import conv_out_size
from dynbackbones.layers.residual import ResidualBlock


class DroppableStage(nn.Sequential):
    """A ResNet stage in which each image runs the blocks of its own policy.

    A block that an image drops gives it the shortcut alone, without ReLU (BlockDrop, section 3.1,
    where only blocks with an identity shortcut are spoken of; the authors' code does the same for
    the others). Where all images keep a block, it is the plain block.

    In training mode each block runs on the images that keep it, whatever the execution: a batch
    norm of its residual branch then sees exactly the images that will reach it in evaluation. The
    authors' code runs all images through every block that any of them keeps, so that its
    statistics hold images that the block never gets. The price is noise where few images keep a
    block; one value per channel (one image, one pixel) has no variance at all, and is normalised
    by the running statistics instead. A shortcut always runs on all images.
    """

    def forward(
        self,
        x: Tensor,
        keep: Tensor,
        sparse: bool = True,
        needed: Tensor | None = None,
        start: int = 0,
    ) -> Tensor:
        """Runs the stage, or some of its blocks.

        Args:
            x: (N, C, H, W).
            keep: (N, blocks) bool, on the CPU if sparse, where the control flow is.
            sparse: leave out what no image needs, instead of computing everything and choosing.
            needed: (blocks,) bool, blocks to run even for no image; see `blocks_to_synchronise`.
            start: the block that the first column of ``keep`` is about.
        """
        blocks = list(self)[start : start + keep.shape[1]]
        if not (sparse or self.training):
            for block, kept in zip(blocks, keep.unbind(dim=1), strict=True):
                x = self._run_masked(block, x, kept)
            return x
        if needed is None:
            needed = torch.zeros(len(blocks), dtype=torch.bool)
        scratch = None  # the last tensor that nobody else can hold
        for block, kept, also in zip(blocks, keep.unbind(dim=1), needed.tolist(), strict=True):
            if kept.all():
                x = block(x)
            elif also or kept.any():
                x = scratch = _run_kept(block, x, kept, in_place=x is scratch)
            else:
                x = self._run_shortcut(block, x)
        return x

    def run_on_device(self, x: Tensor, keep: Tensor) -> Tensor:
        """As `forward` in evaluation, by kernels that read on the device which images keep what.

        Args:
            x: (N, C, H, W).
            keep: (N, blocks) bool, on the device of ``x``.
        """
        tables: list[SelectedCells] = []
        scratch = None  # the last tensor that nobody else can hold
        for index, block in enumerate(self):
            shortcut = block.shortcut(x).contiguous(memory_format=torch.channels_last)
            out = shortcut.clone() if shortcut is x and x is not scratch else shortcut
            if not tables:
                tables = SelectedCells.from_images(keep, *out.shape[2:])
            source = None
            if out.shape[2:] != x.shape[2:]:
                (source,) = SelectedCells.from_images(keep[:, index : index + 1], *x.shape[2:])
            add_residual_(out, block, x, tables[index], source)
            x = scratch = out
        return x

    def _run_masked(self, block: ResidualBlock, x: Tensor, kept: Tensor) -> Tensor:
        shortcut = block.shortcut(x)
        out = block.relu(block.residual(x) + shortcut)
        return torch.where(kept.to(x.device)[:, None, None, None], out, shortcut)

    def _run_shortcut(self, block: ResidualBlock, x: Tensor) -> Tensor:
        shortcut = block.shortcut(x)
        return shortcut + self._unused(block) if self._counts_gradients else shortcut

    @property
    def _counts_gradients(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _unused(self, block: ResidualBlock) -> Tensor | float:
        # DistributedDataParallel waits for a gradient of every parameter, and another process may
        # have run this block.
        layers = block.residual_layers()
        parameters = [p for layer in layers for module in layer for p in module.parameters()]
        return sum(0 * p.sum() for p in parameters if p.requires_grad)


def blocks_to_synchronise(
    stages: Iterable[DroppableStage], keep: Tensor, device: torch.device
) -> Tensor:
    """Blocks that a process must run even if none of its images keeps them: (K,) bool.

    Synchronised batch norm in training waits for all processes, so a block runs in all of them,
    on no image if need be, or in none. Without it there are no such blocks.

    Args:
        stages: of the network.
        keep: (N, K) bool of this process.
        device: of the network.
    """
    if not (_world_size() > 1 and any(_synchronises(stage) for stage in stages)):
        return torch.zeros(keep.shape[1], dtype=torch.bool)
    kept = keep.any(dim=0).int().to(device)
    distributed.all_reduce(kept)
    return kept.cpu() > 0


def _world_size() -> int:
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if ready else 1


def _synchronises(module: nn.Module) -> bool:
    return any(isinstance(m, nn.SyncBatchNorm) and m.training for m in module.modules())


def _run_kept(block: ResidualBlock, x: Tensor, kept: Tensor, in_place: bool) -> Tensor:
    """Runs a block on the images that keep it.

    Args:
        block: the block.
        x: (N, C, H, W).
        kept: (N,) bool on the CPU.
        in_place: whether ``x`` may be overwritten where no gradients are computed, which saves
            a copy of the images that drop the block.
    """
    if block.packed and not torch.is_grad_enabled():
        return _run_each(block, x, kept, in_place)
    index = kept.nonzero().squeeze(1).to(x.device)
    inputs = x.index_select(0, index)
    # In the order of the plain block, which another process may be running: synchronised batch
    # norms wait for each other.
    out = _residual(block, inputs)
    shortcut = block.shortcut(x)
    identity = shortcut is x
    out = block.relu(out + (inputs if identity else shortcut.index_select(0, index)))
    out = out.to(shortcut.dtype)
    if torch.is_grad_enabled() or (identity and not in_place):
        return shortcut.index_copy(0, index, out)
    return shortcut.index_copy_(0, index, out)


def _run_each(block: ResidualBlock, x: Tensor, kept: Tensor, in_place: bool) -> Tensor:
    """As `_run_kept`, image by image: packed weights are for a shape, and sub-batches have many."""
    shortcut = block.shortcut(x)
    out = x.clone() if shortcut is x and not in_place else shortcut
    for index in kept.nonzero().flatten().tolist():
        image = slice(index, index + 1)
        out[image] = block.add_residual(x[image], out[image])
    return out


def _residual(block: ResidualBlock, x: Tensor) -> Tensor:
    layers = block.residual_layers()
    stride = max(conv.stride[0] for conv, _ in layers)
    values = len(x) * conv_out_size(x.shape[2], stride) * conv_out_size(x.shape[3], stride)
    if values != 1 or (_world_size() > 1 and _synchronises(block)):
        if block.activation_checkpointing and block.training and torch.is_grad_enabled():
            return run_checkpointed(block, block.residual, x)
        return block.residual(x)
    with _running_statistics(norm for _, norm in layers):
        return block.residual(x)


@contextmanager
def _running_statistics(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, norm layers use their running statistics and leave them as they are."""
    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.train, norm.training)
            norm.eval()
        yield
