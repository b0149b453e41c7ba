"""Predicting the features of a patch from those of another one and from where it lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OFFSET_SIZE = 8
"""x and y of four corners; boxes are upright, so only four of these numbers are independent."""
LOCATION_STD = 20.0
"""Of V_loc's weights at the start, for offsets in images' sizes. A linear layer's usual ones, some
hundredth of it, leave hidden units linear in the offset, and nothing is learned from it for long;
with these, units tell places a tenth of an image apart, as with offsets in pixels."""
OFFSET_UNITS = ("image", "pixel")


class SpatialContextModule(nn.Module):
    """h3 = V2 sigmoid(V1 h1 + V_loc o + b1) + b2: the context module of eq. 5.1.

    Args:
        channels: of h1, the features of the context patch.
        target_channels: of h3, what is predicted; by default ``channels``.
        hidden_channels: of h2; by default ``channels``, the chapter does not say.
        use_offset: False leaves V_loc o out, the ablation of figure 5.4.
        location_std: standard deviation of V_loc's weights at the start; for offsets in pixels a
            few hundredths.

    Shape:
        (N, channels) and, unless ``use_offset`` is False, (N, 8) to (N, target_channels).

    Raises:
        ValueError: a number of channels is not positive.

    Example:
        >>> import torch
        >>> from dynbackbones.pretraining import SpatialContextModule
        >>> context = SpatialContextModule(512, target_channels=1280)
        >>> context(torch.rand(4, 512), torch.zeros(4, 8)).shape
        torch.Size([4, 1280])
    """

    def __init__(
        self,
        channels: int,
        target_channels: int | None = None,
        hidden_channels: int | None = None,
        use_offset: bool = True,
        location_std: float = LOCATION_STD,
    ) -> None:
        super().__init__()
        target_channels = channels if target_channels is None else target_channels
        hidden_channels = channels if hidden_channels is None else hidden_channels
        for name, value in (
            ("channels", channels),
            ("target_channels", target_channels),
            ("hidden_channels", hidden_channels),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.context = nn.Linear(channels, hidden_channels)
        self.location = nn.Linear(OFFSET_SIZE, hidden_channels, bias=False) if use_offset else None
        if self.location is not None:
            nn.init.normal_(self.location.weight, std=location_std)
        self.target = nn.Linear(hidden_channels, target_channels)

    def forward(self, features: Tensor, offsets: Tensor | None = None) -> Tensor:
        """h3 of h1 and o.

        Raises:
            ValueError: there are no offsets where they are used, or of another shape.
        """
        hidden = self.context(features)
        if self.location is not None:
            expected = (len(features), OFFSET_SIZE)
            if offsets is None or tuple(offsets.shape) != expected:
                shown = None if offsets is None else tuple(offsets.shape)
                raise ValueError(f"offsets must be {expected}, got {shown}")
            hidden = hidden + self.location(offsets.to(hidden.dtype))
        return self.target(hidden.sigmoid())


def offsets_between(
    boxes_i: Tensor, boxes_j: Tensor, sizes: Tensor, unit: str = "image"
) -> Tensor:
    """o_ij = b_i - b_j, where b is x and y of the corners of a box.

    Args:
        boxes_i: (N, 4) of the targets, left, top, right, bottom in pixels.
        boxes_j: (N, 4) of the contexts.
        sizes: (N, 2) height and width of the images in pixels.
        unit: ``"image"`` divides x by the width and y by the height; ``"pixel"`` is as it is. Raw
            pixels saturate a sigmoid behind random weights.

    Returns:
        (N, 8) float32: top-left, top-right, bottom-left, bottom-right, x before y.

    Raises:
        ValueError: the unit is not known, or an argument has another shape.

    Example:
        >>> import torch
        >>> from dynbackbones.pretraining import offsets_between
        >>> target, context = torch.tensor([[60, 20, 100, 40]]), torch.tensor([[20, 10, 60, 20]])
        >>> offsets_between(target, context, torch.tensor([[100, 200]]), "pixel").tolist()
        [[40.0, 10.0, 40.0, 10.0, 40.0, 20.0, 40.0, 20.0]]
    """
    if unit not in OFFSET_UNITS:
        raise ValueError(f"unit must be {' or '.join(map(repr, OFFSET_UNITS))}, got {unit!r}")
    for name, values, width in (
        ("boxes_i", boxes_i, 4),
        ("boxes_j", boxes_j, 4),
        ("sizes", sizes, 2),
    ):
        if tuple(values.shape) != (len(boxes_i), width):
            raise ValueError(
                f"{name} must be ({len(boxes_i)}, {width}), got {tuple(values.shape)}"
            )
    left, top, right, bottom = (boxes_i.float() - boxes_j.float()).unbind(dim=1)
    corners = torch.stack([left, top, right, top, left, bottom, right, bottom], dim=1)
    if unit == "pixel":
        return corners
    height, width = sizes.float().unbind(dim=1)
    return corners / torch.stack([width, height] * 4, dim=1)


def context_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of prediction and target, the mean over a batch of eq. 5.2's terms.

    Args:
        predicted: (N, D) h3.
        targets: (N, D); no gradient goes there.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> from dynbackbones.pretraining import context_loss
        >>> context_loss(torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]))
        tensor(3.)
    """
    return squared_distances(predicted, targets.detach()).mean()


def squared_distances(predicted: Tensor, targets: Tensor) -> Tensor:
    """(N,) squared distance of each prediction from its target.

    Raises:
        ValueError: the shapes differ.
    """
    if predicted.shape != targets.shape:
        raise ValueError(
            f"predicted and targets must have one shape, got {tuple(predicted.shape)} and "
            f"{tuple(targets.shape)}"
        )
    return (predicted.float() - targets.float()).square().sum(dim=1)


def explained_variance(predicted: Tensor, targets: Tensor, mean: Tensor | None = None) -> float:
    """R² = 1 - sum of |t - h3|² / sum of |t - mean|².

    An error that falls can be that of the mean target, which knows nothing of the context: that
    has R² 0.

    Args:
        predicted: (N, D).
        targets: (N, D).
        mean: (D,) of the targets; by default of these, of which one alone has no variance.

    Raises:
        ValueError: the shapes differ, or the targets do not.

    Example:
        >>> import torch
        >>> from dynbackbones.pretraining import explained_variance
        >>> targets = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
        >>> explained_variance(targets.mean(dim=0).expand(2, 2), targets)
        0.0
    """
    mean = targets.float().mean(dim=0) if mean is None else mean
    spread = squared_distances(mean.expand_as(targets), targets).sum()
    if not spread > 0:
        raise ValueError(f"the {len(targets)} targets do not vary: nothing is to be explained")
    return 1 - float(squared_distances(predicted, targets).sum() / spread)
