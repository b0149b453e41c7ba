"""Stages of residual blocks that each image can leave out."""

from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

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

    def forward(self, x: Tensor, keep: Tensor, sparse: bool = True) -> Tensor:
        """Runs the stage.

        Args:
            x: (N, C, H, W).
            keep: (N, blocks) bool on the CPU, where the control flow is.
            sparse: leave out what no image needs, instead of computing everything and choosing.
        """
        sparse = sparse or self.training
        for block, kept in zip(self, keep.unbind(dim=1), strict=True):
            x = self._run_block(block, x, kept, sparse)
        return x

    def _run_block(self, block: ResidualBlock, x: Tensor, kept: Tensor, sparse: bool) -> Tensor:
        if kept.all():
            return block(x)
        shortcut = block.shortcut(x)
        if not sparse:
            return torch.where(
                kept.to(x.device)[:, None, None, None],
                block.relu(block.residual(x) + shortcut),
                shortcut,
            )
        if not kept.any():
            return shortcut + self._unused(block) if self._counts_gradients else shortcut
        index = kept.nonzero().squeeze(1).to(x.device)
        out = self._residual(block, x.index_select(0, index), shortcut.shape[-2:])
        out = block.relu(out + shortcut.index_select(0, index))
        return shortcut.index_copy(0, index, out.to(shortcut.dtype))

    def _residual(self, block: ResidualBlock, x: Tensor, out_size: torch.Size) -> Tensor:
        values = len(x) * out_size[0] * out_size[1]
        if values > 1:
            return block.residual(x)
        with running_statistics(norm for _, norm in block.residual_layers()):
            return block.residual(x)

    @property
    def _counts_gradients(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _unused(self, block: ResidualBlock) -> Tensor | float:
        # DistributedDataParallel waits for a gradient of every parameter, and another process may
        # have run this block.
        layers = block.residual_layers()
        parameters = [p for layer in layers for module in layer for p in module.parameters()]
        return sum(0 * p.sum() for p in parameters if p.requires_grad)


@contextmanager
def running_statistics(norms):
    """Inside, norm layers use their running statistics and leave them as they are."""
    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.train, norm.training)
            norm.eval()
        yield
