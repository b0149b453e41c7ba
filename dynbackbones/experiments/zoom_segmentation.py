"""Prints what a zoom on a segmentor finds and spends beside everything that is to be beaten.

    python -m dynbackbones.experiments.zoom_segmentation CONFIG CHECKPOINT

Policies learn on the config's ``gains_dataset``, images that the segmentor was not trained on, and
everything is evaluated on its test set. Each image is looked at once, coarsely and in all its
patches; rows are sums of what was found there, but for milliseconds, measured side by side.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.utils import track_iter_progress
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.experiments.training import spread_over
from dynbackbones.experiments.zoom_table import spending, timed
from dynbackbones.integrations.mmengine.checked_data import build_dataset
from dynbackbones.integrations.mmengine.shared_paths import merge_options
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.zoom import LearnedPolicy, ZoomSegmentor
from dynbackbones.zoom.budget import best_of, threshold_at
from dynbackbones.zoom.images import ImageSource
from dynbackbones.zoom.segmentation_gains import (
    MeasuredMaps,
    class_weights,
    confusion,
    mean_iou,
    measure_maps,
)
from dynbackbones.zoom.training import train_policy

RATES = (1 / 8, 1 / 4, 1 / 2)
GAINS = "gains_dataset"
WHOLE, COARSE, EVERY = "one full pass", "coarse only", "every patch"
_DRAWS = 10  # of random patches
Row = dict[str, Any]
Sample = tuple[ImageSource, Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table, and writes it as JSON.

    Raises:
        UserError: the config has no zoom or no images to learn on, or these are of the training.
    """
    args = _parser().parse_args(arguments)
    cfg = checks.load_config(args.config)
    merge_options(cfg, args.cfg_options or {}, args.config)
    zoom = _trained(cfg, args.checkpoint)
    learned_on, tested_on = _datasets(cfg)
    started = time.process_time()
    known = _samples(zoom, learned_on, args.gain_images)
    samples = _samples(zoom, tested_on, args.images)
    gains, measured = (
        [measure_maps(zoom, *sample) for sample in track_iter_progress(part)]
        for part in (known, samples)
    )
    rows = table(zoom, measured, gains, range(args.seeds), balanced=args.weights == "frequency")
    rows.insert(1, _whole_pass(zoom, samples))
    _time(rows, zoom, [image for image, _ in samples[:: max(1, len(samples) // args.timed)]])
    _print(rows)
    minutes = (time.process_time() - started) / 60
    print(f"{len(gains)} images to learn on, {len(measured)} evaluated, {minutes:.1f} CPU minutes")
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(
    zoom: ZoomSegmentor,
    measured: Sequence[MeasuredMaps],
    gains: Sequence[MeasuredMaps],
    seeds: Sequence[int],
    *,
    balanced: bool = True,
) -> list[Row]:
    """The rows, all but the pass over whole images, and without milliseconds.

    Args:
        zoom: the wrapped segmentor.
        measured: images to evaluate on.
        gains: images that policies are trained, and thresholds found, on.
        seeds: of policies.
        balanced: whether a pixel counts by its class's frequency, see `class_weights`.
    """
    weights = class_weights(gains) if balanced else None
    policies = [_learn(zoom, gains, weights, seed) for seed in seeds]
    truth = [m.gains(weights) for m in measured]
    every = torch.cat(truth)
    better, worse = ((sign * every > 0).double().mean() for sign in (1, -1))
    print(f"a closer look gains in {better:.0%} of patches and loses in {worse:.0%}")
    rows = []
    for name, rate in ((COARSE, 0.0), (EVERY, 1.0)):
        rows.append(_row(zoom, measured, name, rate, [_shares(truth, rate)]))
    for rate in RATES:
        for name, ways in _selections(rate, measured, gains, truth, policies).items():
            extra = policies[0].macs(1) if name.startswith("learned") else 0
            rows.append(_row(zoom, measured, name, rate, ways, extra))
    return rows


def _selections(
    rate: float,
    measured: Sequence[MeasuredMaps],
    gains: Sequence[MeasuredMaps],
    truth: Sequence[Tensor],
    policies: Sequence[LearnedPolicy],
) -> dict[str, list[list[Tensor]]]:
    """Masks of each image, by what chooses them; several of what is up to chance."""
    entropies = [m.values["entropy"] for m in measured]
    learned = [[p.predict(m.described).detach() for m in measured] for p in policies]
    generator = torch.Generator().manual_seed(0)
    draws = [[torch.rand(len(v), generator=generator) for v in truth] for _ in range(_DRAWS)]
    known = threshold_at([m.values["entropy"] for m in gains], rate)
    thresholds = [p.threshold_at(rate) for p in policies]
    return {
        "random": [_shares(draw, rate) for draw in draws],
        "center": [_shares([m.values["center"] for m in measured], rate)],
        "entropy": [_shares(entropies, rate)],
        "learned": [_shares(values, rate) for values in learned],
        "oracle": [_shares(truth, rate)],
        "entropy, one threshold": [_above(entropies, known)],
        "learned, one threshold": [_above(*pair) for pair in zip(learned, thresholds, strict=True)],
        "oracle, one threshold": [best_of(torch.cat(truth), rate).split([len(v) for v in truth])],
    }


def _learn(
    zoom: ZoomSegmentor, gains: Sequence[MeasuredMaps], weights: Tensor | None, seed: int
) -> LearnedPolicy:
    settings = {"patch": zoom.patch, "scale": zoom.scale, "halo": zoom.halo}
    described, worth = [m.described for m in gains], [m.gains(weights) for m in gains]
    classes = zoom.adapter.num_classes
    policy, figures = train_policy(described, worth, classes, settings, seed=seed)
    print(f"policy {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in figures.items()))
    return policy


def _shares(values: Sequence[Tensor], rate: float) -> list[Tensor]:
    return [best_of(value, rate) for value in values]


def _above(values: Sequence[Tensor], threshold: float) -> list[Tensor]:
    return [value > threshold for value in values]


def _row(
    zoom: ZoomSegmentor,
    measured: Sequence[MeasuredMaps],
    name: str,
    rate: float,
    ways: Sequence[Sequence[Tensor]],
    macs_each: float = 0.0,
) -> Row:
    """Means over ways of choosing, and the spread of mIoU; ``macs_each`` is the policy's."""
    found = []
    for masks in ways:
        matrix = sum(m.confusion(mask) for m, mask in zip(measured, masks, strict=True))
        shares = [float(mask.double().mean()) for mask in masks]
        *rates, macs = spending(zoom, [m.grid for m in measured], shares)
        macs += macs_each * statistics.fmean(len(m.grid) for m in measured)
        found.append((mean_iou(matrix), *rates, macs / 1e9))
    names = ("mIoU", "patch_rate", "pixel_rate", "gmacs")
    means = dict(zip(names, map(statistics.fmean, zip(*found, strict=True)), strict=True))
    spread = statistics.pstdev([each[0] for each in found])
    return {"name": name, "rate": rate, **means, "mIoU_std": spread}


def _whole_pass(zoom: ZoomSegmentor, samples: Sequence[Sample]) -> Row:
    matrix, macs = 0, []
    for image, truth in track_iter_progress(samples):
        labels = zoom.whole(image)
        matrix = matrix + confusion(labels, truth.to(labels.device), zoom.adapter.num_classes)
        macs.append(zoom.full_macs(*image.size) / 1e9)
    figures = {"mIoU": mean_iou(matrix), "pixel_rate": 1.0, "gmacs": statistics.fmean(macs)}
    return {"name": WHOLE, "rate": None, "patch_rate": None, **figures, "mIoU_std": 0.0}


def _time(rows: Sequence[Row], zoom: ZoomSegmentor, images: Sequence[ImageSource]) -> None:
    """Fills in milliseconds: medians over images, of real calls in turn."""

    def run(**options: Any) -> Callable[[ImageSource], Any]:
        other = ZoomSegmentor(
            zoom.model, patch=zoom.patch, scale=zoom.scale, halo=zoom.halo, **options
        ).eval()
        return lambda image: other([image])

    ways = {
        (WHOLE, None): zoom.whole,
        (COARSE, 0.0): run(policy="none"),
        (EVERY, 1.0): run(policy="all"),
        **{("entropy", rate): run(rate=rate) for rate in RATES},
    }
    taken = list(timed(ways, track_iter_progress(images)))
    for row in rows:
        key = row["name"], row["rate"]
        row["ms"] = 1e3 * statistics.median(t[key] for t in taken) if key in ways else None


def _trained(cfg: Config, checkpoint: str) -> ZoomSegmentor:
    zoom = checks.build_model(cfg)
    if not isinstance(zoom, ZoomSegmentor):
        raise UserError(
            f"the config's model is a {type(zoom).__name__}; set type='ZoomSegmentor' around it"
        )
    state = checkpoints.state_dict_of(checkpoints.load(checkpoint), checkpoint)
    checkpoints.check_architecture(zoom.state_dict(), state, checkpoint)
    zoom.load_state_dict(state)
    return zoom.eval()


def _datasets(cfg: Config) -> tuple[Any, Any]:
    """Images to learn on, and to evaluate on; neither is one of the segmentor's training."""
    if cfg.get(GAINS) is None:
        raise UserError(f"the config has no {GAINS}, a dataset of images that policies learn on")
    learned_on = build_dataset(cfg[GAINS], GAINS)
    tested_on = build_dataset(cfg.test_dataloader.dataset, "test_dataloader")
    (training, *_) = checks.datasets_in(cfg.train_dataloader.dataset)
    known = _files(learned_on)
    others = {"training": build_dataset(training), "evaluation": tested_on}
    for name, dataset in others.items():
        shared = sorted(known & _files(dataset))
        if shared:
            raise UserError(
                f"{len(shared)} images of {GAINS} are images of the {name}, such as {shared[0]}; "
                "policies learn on images of their own"
            )
    return learned_on, tested_on


def _files(dataset: Any) -> set[str]:
    return {dataset.get_data_info(index)["img_path"] for index in range(len(dataset))}


def _samples(zoom: ZoomSegmentor, dataset: Any, count: int) -> list[Sample]:
    samples = []
    for index in spread_over(len(dataset), count):
        (images, (sample,)), _ = zoom.adapter.batch(pseudo_collate([dataset[index]]))
        samples.append((images[0], sample.gt_sem_seg.data[0]))
    return samples


def _print(rows: Sequence[Row]) -> None:
    print("\n| share | patches | mIoU | of patches | of pixels | GMACs | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        spread = f" +- {row['mIoU_std']:.1f}" if row["mIoU_std"] else ""
        cells = [
            "" if row["rate"] is None else f"{row['rate']:.3g}",
            row["name"],
            f"{row['mIoU']:.1f}{spread}",
            "" if row["patch_rate"] is None else f"{row['patch_rate']:.3f}",
            f"{row['pixel_rate']:.2f}",
            f"{row['gmacs']:.2f}",
            "" if row["ms"] is None else f"{row['ms']:.0f}",
        ]
        print(f"| {' | '.join(cells)} |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare ways of choosing patches for a segmentor.", allow_abbrev=False
    )
    parser.add_argument("config", help="config of a ZoomSegmentor")
    parser.add_argument("checkpoint", help="of the segmentor")
    parser.add_argument("--gain-images", type=int, default=100, help="to learn on")
    parser.add_argument("--images", type=int, default=100, help="to evaluate on")
    parser.add_argument("--timed", type=int, default=4, help="images to time")
    parser.add_argument("--seeds", type=int, default=3, help="of learned policies")
    parser.add_argument(
        "--weights",
        choices=("frequency", "one"),
        default="frequency",
        help="of a pixel in a gain: one over its class's frequency, or 1",
    )
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    main()
