"""Features of single frames, by any network."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynbackbones.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_COUNTED = ("conv", "addmm", "linear", "matmul", "bmm", "einsum")
_CLASSIFIERS = ("fc", "classifier")  # torchvision's names of what comes after the features


class FrameEncoder(nn.Module):
    """Turns frames into one vector each: resizes, normalises, runs a network and pools.

    Args:
        net: a backbone of this package, a classifier of torchvision such as a ResNet or a
            MobileNetV2, whose last layer is left out here and stays in ``net``, or any network from
            (N, 3, H, W) to (N, D), (N, D, h, w) or a dict of such, of which the last counts. It is
            shared, not copied, and in evaluation mode here.
        size: edge, or (height, width), that frames are resized to.
        mean, std: of each channel in [0, 1]; by default ImageNet's.

    Attributes:
        channels: D.

    Raises:
        UserError: the network's output is something else.

    Example:
        >>> import torch, torchvision
        >>> from dynbackbones import video
        >>> encoder = video.FrameEncoder(torchvision.models.mobilenet_v2(), size=112)
        >>> encoder(torch.zeros(2, 3, 240, 320, dtype=torch.uint8)).shape
        torch.Size([2, 1280])
        >>> round(encoder.macs() / 1e6, 1)
        80.9
    """

    def __init__(
        self,
        net: nn.Module,
        size: int | tuple[int, int],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.net = _without_classifier(net)
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(self.size) < 1:
            raise UserError(f"size of frames must be at least 1 pixel, got {size}")
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.eval()
        self.channels = self.features(self._blank()).shape[1]

    def train(self, mode: bool = True) -> FrameEncoder:
        """Stays in evaluation mode: features are fixed."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, frames: Tensor, batch: int = 64) -> Tensor:
        """Encodes frames, without gradient.

        Args:
            frames: (N, 3, H, W) RGB, uint8 or in [0, 1]; as many as there are.
            batch: how many at a time.

        Returns:
            (N, D) float32.

        Raises:
            UserError: they have another shape, or values are not finite.
        """
        if frames.dim() != 4 or frames.shape[1] != len(self.mean):
            raise UserError(
                f"frames must be (N, {len(self.mean)}, H, W), got {tuple(frames.shape)}; pictures "
                "of (H, W, 3) are turned by permute(2, 0, 1)"
            )
        if 0 in frames.shape:
            raise UserError(f"frames must not be empty, got {tuple(frames.shape)}")
        if frames.is_floating_point() and not frames.isfinite().all():
            raise UserError("frames hold NaN or infinity; leave damaged frames out")
        parts = [self.features(self.prepared(part)) for part in frames.split(batch)]
        return torch.cat(parts).float()

    def macs(self) -> float:
        """Multiply-accumulates of a frame in convolutions and matrix products, as fvcore counts."""
        from fvcore.nn import FlopCountAnalysis

        count = FlopCountAnalysis(_Pooled(self), self._blank()).unsupported_ops_warnings(False)
        by_operator = count.uncalled_modules_warnings(False).by_operator()
        # fvcore counts norms and pooling too, which nobody who quotes MACs does.
        return float(sum(by_operator[name] for name in _COUNTED))

    def _blank(self) -> Tensor:
        return torch.zeros(1, len(self.mean), *self.size, device=self.mean.device)

    def prepared(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) as the network sees them, for its training."""
        frames = frames.float() / (1 if frames.is_floating_point() else 255)
        if tuple(frames.shape[-2:]) != self.size:
            frames = F.interpolate(frames, self.size, mode="bilinear", antialias=True)
        return (frames - self.mean) / self.std

    def features(self, prepared: Tensor) -> Tensor:
        """(N, D) of `prepared` frames, with gradient."""
        out = self.net(prepared)
        if isinstance(out, dict) and out:
            out = list(out.values())[-1]
        if not isinstance(out, Tensor) or out.dim() not in (2, 4):
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise UserError(
                f"network {type(self.net).__name__} must give (N, D) or (N, D, h, w), got {found}; "
                "give the part of it that makes features"
            )
        return out if out.dim() == 2 else out.mean(dim=(2, 3))


class _Pooled(nn.Module):
    """What fvcore counts: the network and the pooling."""

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, prepared: Tensor) -> Tensor:
        return self.encoder.features(prepared)


def _without_classifier(net: nn.Module) -> nn.Module:
    """The network, or one that shares all of its modules but ends before its classifier."""
    children = dict(net.named_children())
    last = list(children)[-1] if children else None
    if last not in _CLASSIFIERS:
        return net
    shorter = copy.copy(net)
    shorter._modules = {**children, last: nn.Identity()}
    return shorter
