"""``dynbackbones stream``: a trained model on some frames of a video, and what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynbackbones.analysis.prediction import Prediction
from dynbackbones.cli.arguments import parse
from dynbackbones.cli.engines import add_engine_option
from dynbackbones.cli.stream_recording import Outputs, record
from dynbackbones.cli.stream_schedules import SCHEDULES, build_stream, check_schedule
from dynbackbones.cli.trained_models import (
    is_yaml,
    open_detector,
    open_mmengine_model,
    refuse_overrides,
)
from dynbackbones.data import coco
from dynbackbones.errors import UserError
from dynbackbones.integrations.config import num_classes
from dynbackbones.integrations.datasets import classes_of_weights
from dynbackbones.video.pictures import Look
from dynbackbones.video.propagation import MOVES, WAYS
from dynbackbones.video.video_file import CODECS

_DESCRIPTION = """\
Run a trained detector (YAML config) or segmentor of mmseg (Python config) on some frames of a
video, and show between them what it said, moved by optical flow. Writes the video with what was
found above a strip that shows which frames were computed, a picture, and figures: times, the share
of frames that were computed, MACs, and how far the shown agrees with the model on every frame.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "video",
        metavar="VIDEO",
        help="a file, a folder of pictures, the number of a camera, or digit_videos_bursts, a clip "
        "of the demo's digits that is written on first use",
    )
    options.add_argument(
        "opts", nargs="*", default=[], metavar="KEY VALUE", help="YAML config overrides, last"
    )
    options.add_argument("--config-file", required=True, metavar="FILE", help="of the model")
    add_engine_option(options)
    options.add_argument(
        "--weights",
        metavar="FILE",
        help="trained weights; of a YAML config by default OUTPUT_DIR/model_final.pth",
    )
    _add_schedule_options(options)
    _add_output_options(options)
    return options


def _add_schedule_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="every",
        help="which frames are computed: every K-th (default), those that differ from the last "
        "computed one, random ones, or those whose moved result is expected to agree too little",
    )
    options.add_argument("--every", type=int, metavar="K", help="of --schedule every (default 5)")
    options.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="of difference (default 0.05) and of agreement (default 0.9), in [0, 1]",
    )
    options.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="share of frames to compute instead, calibrated on the video before it starts; of "
        "random by default 0.2",
    )
    options.add_argument(
        "--agreement-network",
        type=Path,
        metavar="FILE.pth",
        help="of --schedule agreement; where it is not there, it is learned from the video first, "
        "which runs the model on each of its first frames, and written",
    )
    options.add_argument(
        "--propagation", choices=WAYS, default="warp", help="how results are moved (default warp)"
    )
    options.add_argument(
        "--moves",
        choices=MOVES,
        default="result",
        help="what is moved: the result (default), or the backbone's features, which the model's "
        "heads look at in every frame",
    )
    options.add_argument("--max-age", type=int, metavar="N", help="frames a result may be old")


def _add_output_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"video to write, {', '.join(CODECS)} (default: VIDEO's name with _stream.mp4, here)",
    )
    for name in ("json", "picture"):
        suffix = "json" if name == "json" else "png"
        options.add_argument(
            f"--{name}",
            type=Path,
            metavar=f"FILE.{suffix}",
            help=f"{'figures' if name == 'json' else 'picture'} (default: beside the video)",
        )
    options.add_argument("--overwrite", action="store_true", help="replace files that exist")
    options.add_argument("--max-frames", type=int, metavar="N", help="end after so many frames")
    options.add_argument(
        "--score-threshold",
        type=float,
        default=0.5,
        help="of boxes that are drawn and compared (default 0.5)",
    )
    options.add_argument(
        "--agreement-sample",
        type=int,
        default=20,
        metavar="N",
        help="random frames on which the full model runs for comparison, afterwards (default 20)",
    )


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's arguments; a wrong one ends the program."""
    options = parser()
    args = parse(options, arguments, intermixed=True)
    for name, least in (
        ("every", 1), ("max_age", 0), ("max_frames", 1), ("agreement_sample", 0),
    ):  # fmt: skip
        value = getattr(args, name)
        if value is not None and value < least:
            options.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    for name in ("threshold", "score_threshold"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            options.error(f"--{name.replace('_', '-')} must lie in [0, 1], got {value}")
    if args.rate is not None and not 0 < args.rate <= 1:
        options.error(f"--rate must lie in (0, 1], got {args.rate}")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Streams a video as the command line (default ``sys.argv``) says.

    Raises:
        UserError: the input is at fault; nothing is written.
        KeyboardInterrupt: it was stopped; what was done until then is written.
    """
    args = parse_args(arguments)
    check_schedule(args)
    refuse_overrides(args)
    source = video_source(args.video)
    outputs = Outputs.of(args, source)
    outputs.check(args.overwrite)
    trained = _detector(args) if is_yaml(args) else _segmentor(args)
    stream, adapter = build_stream(args, trained.model, source)
    record(args, source, stream, adapter, trained.shown, trained.look, outputs)


def video_source(text: str) -> str | int:
    """A path, also that of a dataset's images, or the number of a camera.

    Raises:
        UserError: there is none of these.
    """
    if Path(text).exists():
        return text
    if text.isdecimal():
        return int(text)
    if text in coco.known_datasets():
        return str(coco.resolve(text).images)
    raise UserError(f"video {text} does not exist; give a video file or a folder of pictures")


class Trained(NamedTuple):
    """A model as the command needs it.

    Attributes:
        model: which `Stream` takes.
        shown: what is drawn and compared of its results: a `Prediction`, or (H, W) labels.
        look: how.
    """

    model: Any
    shown: Callable[[Any], Prediction | Tensor]
    look: Look


def _detector(args: argparse.Namespace) -> Trained:
    _, cfg, predictor = open_detector(args)
    classes = classes_of_weights(cfg, cfg.MODEL.WEIGHTS)
    names = classes.names if classes else tuple(map(str, range(num_classes(cfg))))
    return Trained(predictor, lambda found: found, Look(names, (), args.score_threshold))


def _segmentor(args: argparse.Namespace) -> Trained:
    cfg, model, content = open_mmengine_model(args)
    from dynbackbones.integrations.openmmlab.video_segmentor import with_config

    with_config(model, cfg).to("cuda" if torch.cuda.is_available() else "cpu")
    names, palette = _classes(cfg, content)
    return Trained(model, _labels, Look(names, palette, args.score_threshold))


def _labels(sample: Any) -> Tensor:
    return sample.pred_sem_seg.data[0].cpu()


def _classes(cfg: Any, content: dict[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
    """Names and colours: of the weights' file, else of the dataset that the config tests on."""
    from mmengine.registry import DATASETS

    meta = (content.get("meta") or {}).get("dataset_meta") or {}
    if not meta.get("classes"):
        dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
        meta = getattr(DATASETS.get(str(dataset.get("type"))), "METAINFO", {})
    return meta.get("classes") or (), meta.get("palette") or ()
