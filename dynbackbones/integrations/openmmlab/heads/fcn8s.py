"""FCN-8s as a decode head; needs mmseg, so configs import it by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn


@MODELS.register_module()
class FCN8sHead(BaseDecodeHead):
    """Scores of features at strides 8, 16 and 32, added (Long et al., 2015).

    Bilinear upsampling stands for the original's deconvolutions, which start as it.

    Args:
        in_channels: of the three features.
        channels: of the convolutions before the scores of stride 32; without any, those of the
            feature.
        kernel_sizes: of these convolutions: (7, 1) is VGG's fc6 and fc7.
        in_index: of the three features.
        num_classes, dropout_ratio, align_corners, ignore_index, loss_decode: mmseg's.

    Raises:
        ValueError: not three features, or channels that do not fit.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_classes: int,
        kernel_sizes: Sequence[int] = (),
        in_index: Sequence[int] = (1, 2, 3),
        dropout_ratio: float = 0.5,
        align_corners: bool = False,
        ignore_index: int = 255,
        loss_decode: dict | None = None,
    ) -> None:
        if len(in_channels) != 3 or len(in_index) != 3:
            raise ValueError(
                f"FCN8sHead takes three features, got in_channels={list(in_channels)}, "
                f"in_index={list(in_index)}"
            )
        if not kernel_sizes and channels != in_channels[-1]:
            raise ValueError(
                f"channels must be in_channels[2]={in_channels[-1]} where kernel_sizes is empty, "
                f"got {channels}"
            )
        super().__init__(
            in_channels=list(in_channels),
            channels=channels,
            num_classes=num_classes,
            in_index=list(in_index),
            input_transform="multiple_select",
            dropout_ratio=dropout_ratio,
            align_corners=align_corners,
            ignore_index=ignore_index,
            loss_decode=loss_decode or {"type": "CrossEntropyLoss"},
        )
        layers: list[nn.Module] = []
        before = in_channels[-1]
        for size in kernel_sizes:
            layers += [nn.Conv2d(before, channels, size, padding=size // 2), nn.ReLU(inplace=True)]
            before = channels
            # conv_seg has a dropout of its own before it.
            layers.append(nn.Dropout2d(dropout_ratio))
        self.convs = nn.Sequential(*layers[:-1])
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in in_channels[:2])
        for score in self.scores:
            nn.init.zeros_(score.weight)
            nn.init.zeros_(score.bias)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        fine, middle, coarse = self._transform_inputs(inputs)
        x = self.cls_seg(self.convs(coarse))
        for features, score in ((middle, self.scores[1]), (fine, self.scores[0])):
            size = tuple(features.shape[-2:])
            x = F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
            x = x + score(features)
        return x
