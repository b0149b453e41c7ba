"""Teaches a detector where to look closer in large images, and says what that is worth."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.cli.arguments import check_output
from dynbackbones.cli.trained_models import open_trained
from dynbackbones.cli.zoom_options import parse_args
from dynbackbones.errors import UserError
from dynbackbones.integrations.zoom import (
    build_zoom,
    detector_settings,
    settings_of,
    zoom_defaults,
)
from dynbackbones.training.progress import show_time_left
from dynbackbones.zoom.detector import ZoomDetector
from dynbackbones.zoom.learned import load_policy

_WRITES = {"train": ".pth", "predict": ".png"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Does one of the steps.

    Raises:
        UserError: the input is at fault.
    """
    args = parse_args(__doc__, arguments)
    if args.action in _WRITES and args.output is not None:
        # Such files are made anew in each run, but not instead of other things.
        check_output(args.output, [_WRITES[args.action]], overwrite=True)
    _, engine, cfg = open_trained(args)
    run = {"gains": gains, "train": train, "table": table, "predict": predict}[args.action]
    run(args, cfg, engine)


def gains(args: argparse.Namespace, cfg, engine) -> None:
    """Measures images, and says what a closer look gains in them."""
    from dynbackbones.experiments.zoom_data import ZoomData, refuse_overlap

    zoom = _plain_zoom(cfg, engine)
    data = ZoomData(cfg, args.dataset, zoom.adapter.first_label, args.max_images)
    trained = [ZoomData(cfg, name, zoom.adapter.first_label) for name in cfg.DATASETS.TRAIN]
    refuse_overlap(data, trained, "the detector knows them, and looks better than it is")
    measured = _measure(args, cfg, zoom, data, _gains_folder(args, cfg))
    every = torch.cat([m.gains for m in measured])
    print(
        f"{len(every)} patches of {len(measured)} images: a closer look gains "
        f"{float(every.mean()):.3f} objects in the mean, more than none in "
        f"{float((every > 0).double().mean()):.0%} of patches, less in "
        f"{float((every < 0).double().mean()):.0%}"
    )
    print(f"figures: {_gains_folder(args, cfg)}")


def train(args: argparse.Namespace, cfg, engine) -> None:
    """Fits a policy and writes it."""
    from dynbackbones.zoom.training import train_policy

    path = args.output or _policy_file(cfg)
    if path.exists():
        load_policy(path)  # which another policy may replace, and nothing else
    zoom = _plain_zoom(cfg, engine)
    measured, settings = _read_gains(args, cfg)
    policy, figures = train_policy(
        [m.described for m in measured],
        [m.gains for m in measured],
        zoom.adapter.num_classes,
        settings,
        seed=args.seed,
    )
    print(
        f"on images that it had not seen: correlation with the gains {figures['correlation']:.2f}, "
        f"{figures['share_of_best_gain']:.0%} of the gain of the best quarter of patches"
    )
    policy.save(path)
    print(
        f"policy: {path}\nevaluate with it: dynbackbones train-net --config-file "
        f"{args.config_file} --eval-only MODEL.ZOOM.ENABLED True MODEL.ZOOM.POLICY learned "
        f"MODEL.ZOOM.WEIGHTS {path}"
    )


def table(args: argparse.Namespace, cfg, engine) -> None:
    """Evaluates all ways on the first dataset of DATASETS.TEST."""
    from dynbackbones.experiments.zoom_comparison import compare
    from dynbackbones.experiments.zoom_data import ZoomData, refuse_overlap
    from dynbackbones.experiments.zoom_table import efficiency, to_json
    from dynbackbones.experiments.zoom_table import table as text

    zoom = _plain_zoom(cfg, engine)
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST names no dataset to evaluate on")
    data = ZoomData(cfg, cfg.DATASETS.TEST[0], zoom.adapter.first_label, args.max_images)
    measured_gains, settings = _read_gains(args, cfg)
    known = ZoomData(cfg, settings["dataset"], zoom.adapter.first_label)
    refuse_overlap(data, [known], "the policy was trained on them")
    folder = Path(cfg.OUTPUT_DIR) / "zoom"
    measured = _measure(args, cfg, zoom, data, folder / f"measured_{data.name}")
    rows = compare(
        zoom,
        data,
        measured,
        measured_gains,
        settings,
        rates=args.rates,
        seeds=args.seeds,
        count=args.timed,
        sahi=args.sahi,
        reinforce=args.reinforce,
        progress=show_time_left,
    )
    print(f"\n{text(rows)}\n")
    height, width = measured[0].grid.size
    share = zoom.break_even(height, width)
    print(f"break-even of MACs at {height}x{width}: {share:.0%} of patches")
    for rate in args.rates:
        print(f"zoom efficiency at {rate:.3g}: {efficiency(rows, 'learned', rate):.2f}")
    path = folder / "table.json"
    write_json(path, to_json(rows), indent=2)
    print(f"figures: {path}")


def predict(args: argparse.Namespace, cfg, engine) -> None:
    """Draws images with the patches that were looked at."""
    from dynbackbones.experiments.zoom_data import ZoomData, read_pixels
    from dynbackbones.zoom.pictures import save_zoom_picture

    zoom = _trained_zoom(args, cfg, engine)
    if args.images:
        pictures, names = [read_pixels(path) for path in args.images], None
    else:
        if not cfg.DATASETS.TEST:
            raise UserError("DATASETS.TEST is empty: name a dataset to draw, or give --images")
        data = ZoomData(cfg, cfg.DATASETS.TEST[0], zoom.adapter.first_label, args.max_images or 4)
        pictures, names = [data.pixels(number) for number in data.numbers], data.class_names
    path = args.output or Path(cfg.OUTPUT_DIR) / "zoom" / "patches.png"
    rows = []
    for pixels in show_time_left(pictures, len(pictures)):
        (found,) = zoom.run([_as_input(pixels, cfg)])
        rows.append((pixels, found, zoom.decisions))
    save_zoom_picture(path, rows, class_names=names, first_label=zoom.adapter.first_label)
    decisions = [row[2] for row in rows]
    share = sum(float(d.rate) for d in decisions) / len(decisions)
    macs = sum(float(d.macs) for d in decisions) / len(decisions)
    print(f"{len(rows)} images: {share:.0%} of patches, {macs / 1e9:.2f} GMACs per image")
    print(f"picture: {path}")


def _plain_zoom(cfg, engine) -> ZoomDetector:
    """The config's zoom, whatever its policy is: both passes are the same with any."""
    return build_zoom(cfg, engine.load_predictor(cfg).model, policy="score")


def _trained_zoom(args: argparse.Namespace, cfg, engine) -> ZoomDetector:
    """With the policy that config or command line name, else with the one that was trained."""
    model, file = engine.load_predictor(cfg).model, _policy_file(cfg)
    policy = cfg.MODEL.ZOOM.POLICY
    named = "MODEL.ZOOM.POLICY" in args.opts[::2] or policy != zoom_defaults()["POLICY"]
    if named or cfg.MODEL.ZOOM.WEIGHTS or not file.is_file():
        return build_zoom(cfg, model)
    print(f"policy: {file}")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ZOOM.POLICY, cfg.MODEL.ZOOM.WEIGHTS = "learned", str(file)
    return build_zoom(cfg, model)


def _measure(args, cfg, zoom: ZoomDetector, data, folder: Path) -> list:
    from dynbackbones.zoom.measured import digest, measure_all

    settings = {
        **settings_of(cfg),
        **detector_settings(cfg),
        "handover": zoom.rules.handover,
        "dataset": data.name,
        "annotations": digest(data.source.annotations),
        "weights": digest(cfg.MODEL.WEIGHTS),
    }

    def progress(todo: Sequence[int], total: int) -> Iterable[int]:
        if total:
            print(f"both passes over {total} images of {data.name}", flush=True)
        return show_time_left(todo, total)

    return measure_all(zoom, data.numbers, data.load, folder, settings, progress)


def _read_gains(args: argparse.Namespace, cfg) -> tuple[list, dict]:
    from dynbackbones.zoom.measured import digest, read_all

    folder = _gains_folder(args, cfg)
    expected = {
        **settings_of(cfg),
        **detector_settings(cfg),
        "weights": digest(cfg.MODEL.WEIGHTS),
    }
    found, settings = read_all(folder, expected, "measure them with dynbackbones zoom gains")
    if not isinstance(settings.get("dataset"), str):
        raise UserError(f"{folder} does not say of which dataset it is; measure it anew")
    return found, settings


def _gains_folder(args: argparse.Namespace, cfg) -> Path:
    return args.gains or Path(cfg.OUTPUT_DIR) / "zoom" / "gains"


def _policy_file(cfg) -> Path:
    return Path(cfg.OUTPUT_DIR) / "zoom" / "policy.pth"


def _as_input(pixels, cfg) -> torch.Tensor:
    pixels = pixels[:, :, ::-1] if cfg.INPUT.FORMAT == "BGR" else pixels
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
