"""A picture of what a segmentor predicts before and after adaptation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn

from dynbackbones import checkpoints
from dynbackbones.cli.arguments import parse
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import build_dataset
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.pictures import add_title, overlay_labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws images of a config's test set with the predictions of two checkpoints.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(_parser(), arguments)
    if args.num_images < 1:
        raise UserError(f"--num-images must be at least 1, got {args.num_images}")
    cfg = checks.load_config(args.config)
    checks.check_datasets(cfg, ("test_dataloader",))
    picture = before_and_after(cfg, args.before, args.after, args.num_images)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.output), np.ascontiguousarray(picture[..., ::-1])):
        raise UserError(f"the picture cannot be written to {args.output}; name a .png file")
    print(args.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draw what a segmentor predicts before and after adaptation."
    )
    parser.add_argument("config", help="Python config; its test set is drawn")
    parser.add_argument("before", help="checkpoint")
    parser.add_argument("after", help="checkpoint of the same network")
    parser.add_argument("--output", type=Path, default=Path("adaptation.png"), metavar="FILE.png")
    parser.add_argument("--num-images", type=int, default=4)
    return parser


def before_and_after(cfg: Config, before: str, after: str, num_images: int) -> np.ndarray:
    """A row for each image: it, ground truth, and both predictions.

    Args:
        cfg: with a test set.
        before, after: checkpoint files.
        num_images: evenly over the test set.

    Returns:
        uint8, RGB.

    Raises:
        UserError: a checkpoint is of another network.
    """
    model = checks.build_model(cfg)
    dataset = build_dataset(cfg.test_dataloader.dataset)
    last = len(dataset) - 1
    chosen = sorted({round(x) for x in np.linspace(0, last, num_images)})
    batches = [pseudo_collate([dataset[index]]) for index in chosen]
    predictions = [_predictions(model, path, batches) for path in (before, after)]
    rows = []
    for batch, old, new in zip(batches, *predictions, strict=True):
        labels = {"before": old, "after": new}
        sample = batch["data_samples"][0]
        if "gt_sem_seg" in sample:
            labels = {"ground truth": sample.gt_sem_seg.data[0].numpy(), **labels}
        rows.append(_row(batch["inputs"][0], labels, dataset.metainfo["palette"]))
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [
            np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
            for row in rows
        ]
    )


def _predictions(model: nn.Module, path: str, batches: list[dict]) -> list[np.ndarray]:
    state = checkpoints.state_dict_of(checkpoints.load(path), path)
    checkpoints.check_architecture(model.state_dict(), state, path)
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        found = [model.test_step(dict(batch))[0] for batch in batches]
    return [sample.pred_sem_seg.data[0].cpu().numpy() for sample in found]


def _row(inputs: torch.Tensor, maps: dict[str, np.ndarray], palette: list) -> np.ndarray:
    """As the pipeline gives the image, which may have changed it, but in the labels' size."""
    height, width = next(iter(maps.values())).shape
    pixels = np.ascontiguousarray(inputs.flip(0).permute(1, 2, 0).numpy())  # from BGR
    image = cv2.resize(pixels, (width, height))
    panels = [add_title(image, "image")]
    for title, labels in maps.items():
        panels.append(add_title(overlay_labels(image, labels, palette), title))
    return np.concatenate(panels, axis=1)
