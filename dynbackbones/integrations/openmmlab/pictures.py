"""Pictures of what was refined for segmentations and classes, as figs. 6 and 7 of the SAR paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from dynbackbones.analysis.pictures import dimmed, region_brightness, share_in_image
from dynbackbones.backbones.base import find_backbones
from dynbackbones.data.images import cv2_name
from dynbackbones.integrations.mmengine.runner import unwrap_model

COLUMNS = 3
LABEL_OPACITY = 0.6
TITLE_HEIGHT = 22  # pixels
PANEL_WIDTH = 224  # at least, of classified images


@HOOKS.register_module()
class RegionPictureHook(Hook):
    """Adds pictures of a few images to the visualiser in every validation and test.

    A picture shows the image, ground truth, prediction and, for a backbone that chooses regions,
    what each stage refined; of a classifier the image as the network saw it, and its classes. Only
    the main process draws.

    Args:
        num_images: the first images of the set are shown.
    """

    priority = "LOW"

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images
        self._shown = 0

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        self._shown = 0

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | dict | None = None,
        mode: str = "train",
    ) -> None:
        if mode != "train":
            self._show(runner, mode, data_batch, outputs)

    def _show(self, runner: Runner, mode: str, data_batch: Any, outputs: Sequence) -> None:
        # A runner that only tests would load the training set to say its iteration.
        step = runner.iter if mode == "val" else runner.message_hub.get_info("iter", 0)
        for index, output in enumerate(outputs):
            if self._shown >= self.num_images or runner.rank != 0:
                return
            draw = _classified if hasattr(output, "pred_score") else _segmented
            picture = draw(runner, data_batch, index, output)
            if picture is not None:
                runner.visualizer.add_image(f"{mode}_{self._shown}", picture, step=step)
                self._shown += 1


def _segmented(runner: Runner, data_batch: Any, index: int, output: Any) -> np.ndarray | None:
    """The picture of a segmented image; None where it cannot be read."""
    image = cv2.imread(cv2_name(output.img_path))
    if image is None:
        runner.logger.warning(f"no picture of {output.img_path}: it cannot be read")
        return None
    maps = {
        title: getattr(output, field).data[0].cpu().numpy()
        for title, field in (("ground truth", "gt_sem_seg"), ("prediction", "pred_sem_seg"))
        if field in output
    }
    return segmentation_picture(
        np.ascontiguousarray(image[..., ::-1]),
        maps,
        refined_shares(unwrap_model(runner), data_batch, index),
        runner.visualizer.dataset_meta["palette"],
    )


def _classified(runner: Runner, data_batch: Any, index: int, output: Any) -> np.ndarray:
    """The picture of a classified image, as the network saw it."""
    model = unwrap_model(runner)
    image = data_batch["inputs"][index].permute(1, 2, 0).cpu().numpy()
    if getattr(model.data_preprocessor, "to_rgb", False):
        image = image[..., ::-1]
    times = -(-PANEL_WIDTH // image.shape[1])
    image = np.ascontiguousarray(image.repeat(times, axis=0).repeat(times, axis=1))
    names = (runner.visualizer.dataset_meta or {}).get("classes")
    truth, found = (
        names[int(label[0])] if names else f"class {int(label[0])}"
        for label in (output.gt_label, output.pred_label)
    )
    seen = "" if truth == found else f", taken for {found}"
    caption = f"{truth}{seen}: {float(output.pred_score.max()):.2f}"
    shares = refined_shares(model, data_batch, index)
    return segmentation_picture(image, {}, shares, (), caption)


def refined_shares(model: nn.Module, data_batch: Any, index: int) -> dict[str, Tensor]:
    """What each stage refines of one image of a batch, seen whole and not flipped.

    The prediction may have been put together from windows or flips, so the backbone looks at the
    image once more.

    Args:
        model: a segmentor or a classifier.
        data_batch: as its data loader gives it.
        index: of the image in the batch.

    Returns:
        Stage to (height, width) float, the share of the stage's selectors that refine a pixel;
        empty for a backbone that chooses no regions.
    """
    if isinstance(data_batch["inputs"][0], list | tuple):
        # Test-time augmentation: the first version of all images, then the second, ...
        data_batch = {key: versions[0] for key, versions in data_batch.items()}
    one = {key: [data_batch[key][index]] for key in ("inputs", "data_samples")}
    inputs = model.data_preprocessor(one, False)["inputs"]
    backbone = find_backbones(model)[0]
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad(), backbone.state_kept():
        # Not by a call, whose hooks would count this pass among those of the evaluation.
        backbone.forward(inputs)
        stages = backbone.decisions.regions()
    backbone.train(was_training)
    size = tuple(one["inputs"][0].shape[-2:])
    return {
        stage: region_brightness(regions.masks[0], regions.row_edges, regions.col_edges, size)
        for stage, regions in stages.items()
    }


def segmentation_picture(
    image: np.ndarray,
    label_maps: Mapping[str, np.ndarray],
    shares: Mapping[str, Tensor],
    palette: Sequence[Sequence[int]],
    caption: str = "image",
) -> np.ndarray:
    """The panels of one image in rows of three.

    Args:
        image: (H, W, 3) uint8, RGB.
        label_maps: title to (H, W) classes; 255 and other values without a colour stay as they are.
        shares: stage to what it refined, see `refined_shares`.
        palette: RGB of each class.
        caption: of the image.

    Returns:
        uint8, RGB.
    """
    panels = [add_title(image, caption)]
    for title, labels in label_maps.items():
        panels.append(add_title(overlay_labels(image, labels, palette), title))
    for stage, share in shares.items():
        shown = dimmed(image, share_in_image(share, image.shape[:2]))
        title = f"{stage}: {100 * float(share.mean()):.0f} % refined"
        panels.append(add_title((255 * shown).round().astype(np.uint8), title))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % COLUMNS)
    rows = [np.concatenate(panels[i : i + COLUMNS], 1) for i in range(0, len(panels), COLUMNS)]
    return np.concatenate(rows)


def add_title(image: np.ndarray, title: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 under a line of text, with a white edge."""
    header = np.full((TITLE_HEIGHT, image.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(
        header, title, (3, TITLE_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1,
        cv2.LINE_AA,
    )  # fmt: skip
    return np.pad(np.concatenate([header, image]), ((0, 2), (0, 2), (0, 0)), constant_values=255)


def overlay_labels(
    image: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Lays the colours of classes over an image; labels without a colour leave it as it is."""
    colours = np.asarray(palette, dtype=np.float64)
    known = labels < len(colours)
    result = image.astype(np.float64)
    result[known] += LABEL_OPACITY * (colours[labels[known]] - result[known])
    return result.round().astype(np.uint8)
