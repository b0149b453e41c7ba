"""``dynbackbones video-features``: features of videos in class folders, once, into files."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.backbones import build_backbone, list_backbones
from dynbackbones.checkpoints.digest import sha256_of
from dynbackbones.checkpoints.whole_file import whole_file, write_json
from dynbackbones.cli.arguments import parse, positive
from dynbackbones.data.video_features import (
    COARSE,
    FINE,
    features_file,
    list_line,
    write_features,
)
from dynbackbones.data.video_folders import FolderVideo, find_videos
from dynbackbones.errors import UserError
from dynbackbones.training.progress import show_time_left
from dynbackbones.video.encoder import FrameEncoder
from dynbackbones.video.frames import Frame, frames, sampled

META = "features.json"
_THEIRS = "torchvision:"  # before a name that this package has, too
# This package's MobileNetV2 ends before the layer of 1280 channels that the papers take.
_DEFAULTS = {COARSE: (f"{_THEIRS}mobilenet_v2", 112), FINE: ("resnet50", 224)}
_PRETRAINED, _UNTRAINED = "torchvision", "none"
_CLASSIFIER = re.compile(r"^(fc|classifier)\.")
_BATCH = 32  # frames


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description="Encode the frames of videos by two networks, a coarse and a fine one, and "
        "write a file for each video and a list for each folder, which AdaFrame and LiteEval train "
        "on. Finished files are not made again: an interrupted command continues."
    )
    options.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="with a folder for each class, in which each video is a file or a folder of pictures; "
        "such as videos/train videos/val, whose lists are then train.txt and val.txt",
    )
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--overwrite", action="store_true", help="make files that exist again")
    for kind, (name, size) in _DEFAULTS.items():
        options.add_argument(
            f"--{kind}",
            default=name,
            metavar="NETWORK",
            help=f"a backbone of this package, or {_THEIRS} and a classifier of torchvision "
            f"(default: {name})",
        )
        options.add_argument(
            f"--{kind}-size",
            type=positive,
            default=size,
            metavar="PIXELS",
            help=f"edge that frames are resized to (default: {size})",
        )
        options.add_argument(
            f"--{kind}-weights",
            default=_PRETRAINED,
            metavar="FILE",
            help=f"a file, {_PRETRAINED!r} for its weights of that name (default), or "
            f"{_UNTRAINED!r}",
        )
    options.add_argument(
        "--fps",
        type=float,
        default=1.0,
        metavar="R",
        help="frames in a second to take of video files (default: 1); of folders all are taken",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Encodes what is missing, and writes the lists.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    if not 0 < args.fps < float("inf"):
        raise UserError(f"--fps must be positive, got {args.fps}")
    splits, classes = _find(args.folders)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoders = {kind: _encoder(kind, args).to(device) for kind in _DEFAULTS}
    meta = _described(args, classes, encoders)
    _check_same(args.output / META, meta)
    _refuse_lists(args.output, splits)
    write_json(args.output / META, meta, indent=2)
    for kind, entry in meta["encoders"].items():
        print(
            f"{kind}: {entry['network']} at {entry['size']} x {entry['size']}, {entry['channels']} "
            f"channels, {entry['macs'] / 1e9:.4g} GMACs a frame",
            flush=True,
        )
    for split, videos in splits.items():
        _encode(split, videos, encoders, args)


def _find(folders: Sequence[Path]) -> tuple[dict[str, list[FolderVideo]], tuple[str, ...]]:
    """The videos of each folder, by its name, and the classes of all."""
    splits: dict[str, list[FolderVideo]] = {}
    classes = None
    for folder in folders:
        split = folder.resolve().name
        if split in splits:
            raise UserError(f"folder {folder}: another one is called {split} too; rename it")
        splits[split], classes = find_videos(folder, classes)
        for video in splits[split]:
            list_line(f"{split}/{video.name}", video.label)  # refused now, before the work
    return splits, classes


def _encoder(kind: str, args: argparse.Namespace) -> FrameEncoder:
    """A network with its weights, less its classifier."""
    name, weights = getattr(args, kind), getattr(args, f"{kind}_weights")
    size = getattr(args, f"{kind}_size")
    if name in list_backbones():
        encoder = FrameEncoder(build_backbone(name), size)
        if weights == _PRETRAINED:
            weights = f"torchvision://{name}"
    else:
        encoder = _torchvision_encoder(kind, name.removeprefix(_THEIRS), weights, size)
    if weights not in (_PRETRAINED, _UNTRAINED):
        state = checkpoints.read_weights(weights)
        if name not in list_backbones():
            state = state.but(_CLASSIFIER)  # which may be of other classes
        checkpoints.load_state(encoder.net, state, weights)
    return encoder


def _torchvision_encoder(kind: str, name: str, weights: str, size: int) -> FrameEncoder:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise UserError(
            f"--{kind} {name} is neither a backbone of this package ({', '.join(list_backbones())})"
            f" nor, with or without {_THEIRS}, a classifier of torchvision"
        )
    try:
        net = models.get_model(name, weights="DEFAULT" if weights == _PRETRAINED else None)
    except OSError as error:
        raise UserError(
            f"--{kind}-weights {weights}: the weights of {name} cannot be downloaded ({error}); "
            "give a file"
        ) from error
    return FrameEncoder(net, size)


def _described(
    args: argparse.Namespace, classes: Sequence[str], encoders: Mapping[str, FrameEncoder]
) -> dict[str, Any]:
    """What all files of an output have in common."""
    found = {}
    for kind, encoder in encoders.items():
        weights = getattr(args, f"{kind}_weights")
        found[kind] = {
            "network": getattr(args, kind),
            "weights": sha256_of(weights) if Path(weights).is_file() else weights,
            "size": getattr(args, f"{kind}_size"),
            "channels": encoder.channels,
            "macs": encoder.macs(),
        }
    return {"classes": list(classes), "fps": args.fps, "encoders": found}


def _check_same(path: Path, meta: Mapping[str, Any]) -> None:
    """Refuses to mix features of different networks in one folder, also where files are replaced.

    Those of other videos would stay.
    """
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(key, before[key], meta[key]) for key in ("classes", "fps")]
        for kind, entry in meta["encoders"].items():
            there = before["encoders"][kind]
            pairs += [(f"{kind} {k}", there[k], entry[k]) for k in entry if k != "macs"]
    except OSError as error:
        reason = error.strerror
        raise UserError(f"{path} cannot be read: {reason}; name another --output") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not what this command writes; restore it, or name another --output"
        ) from error
    for what, there, here in pairs:
        if there != here:
            raise UserError(
                f"{path.parent} has features of other settings: {what} is {there} there and {here} "
                "here; name another --output, or delete that folder"
            )


def _refuse_lists(output: Path, splits: Iterable[str]) -> None:
    """Refuses to write over lists that this command has not written."""
    lists = [output / f"{split}.txt" for split in splits]
    others = [path for path in lists if path.exists() and not (output / META).exists()]
    if others:
        raise UserError(
            f"{others[0]} is there, in a folder without features; name another --output"
        )


def _encode(
    split: str,
    videos: Sequence[FolderVideo],
    encoders: Mapping[str, FrameEncoder],
    args: argparse.Namespace,
) -> None:
    """Writes the files of a folder that are missing, and its list."""
    if args.overwrite:  # now, so that an interrupted command has no old ones left
        for video in videos:
            features_file(args.output, f"{split}/{video.name}").unlink(missing_ok=True)
    lines, left_out, made = [], [], 0
    for video in show_time_left(videos, len(videos), f"{split}, video"):
        name = f"{split}/{video.name}"
        file = features_file(args.output, name)
        if not file.exists():
            try:
                features = encoded(sampled(frames(video.path), args.fps), encoders)
            except UserError as error:
                left_out.append(str(error))
                continue
            write_features(file, **{kind: values.numpy() for kind, values in features.items()})
            made += 1
        lines.append(list_line(name, video.label))
    if not lines:
        raise UserError(f"none of the {len(videos)} videos in {split} can be read; {left_out[0]}")
    with whole_file(args.output / f"{split}.txt") as listed:
        listed.write("".join(lines).encode())
    print(f"{args.output / split}.txt: {len(lines)} videos, {made} of them encoded now", flush=True)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)


@torch.no_grad()
def encoded(video: Iterable[Frame], encoders: Mapping[str, FrameEncoder]) -> dict[str, Tensor]:
    """Features (frames, channels) of a video by each encoder; unreadable frames are left out.

    Raises:
        UserError: no frame can be read.
    """
    parts: dict[str, list[Tensor]] = {kind: [] for kind in encoders}
    for batch in _batches(video):
        for kind, encoder in encoders.items():
            device = encoder.mean.device
            # One by one, since pictures of a folder may differ in size.
            prepared = [encoder.prepared(frame[None].to(device)) for frame in batch]
            parts[kind].append(encoder.features(torch.cat(prepared)).float().cpu())
    if not all(parts.values()):
        raise UserError("no frame of the video can be read")
    return {kind: torch.cat(values) for kind, values in parts.items()}


def _batches(video: Iterable[Frame]) -> Iterator[list[Tensor]]:
    """Images (3, H, W), a few at a time."""
    images = (frame.image for frame in video if frame.image is not None)
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images)
    while batch := list(itertools.islice(pixels, _BATCH)):
        yield batch
