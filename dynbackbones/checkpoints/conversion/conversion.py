"""Giving a checkpoint the names of another library."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.checkpoints.conversion.architecture import Architecture, find_architecture
from dynbackbones.checkpoints.conversion.formats import ALIKE, Layout, layout_of, remarks
from dynbackbones.checkpoints.conversion.report import Report
from dynbackbones.checkpoints.conversion.source import Source, read_source
from dynbackbones.checkpoints.pixels import pixel_format
from dynbackbones.errors import UserError

_COUNTERS = "counters of batch norm, which no result depends on"
_STATISTICS = "statistics of norm layers that have none: mean 0, variance 1"
_THRESHOLD = "threshold of the policy network: actions more probable than not are taken"


@dataclass
class Conversion:
    """A checkpoint under its new names.

    Attributes:
        source: the checkpoint before.
        architecture: of the backbone.
        layout: the names' form in the new file.
        backbone: the backbone's weights under this package's names.
        head: ``weight`` and ``bias`` of the classifier; empty without one.
        report: what became of every key.
        remarks: what a user of the result must set.
    """

    source: Source
    architecture: Architecture
    layout: Layout
    backbone: dict[str, Tensor]
    head: dict[str, Tensor]
    report: Report
    remarks: list[str] = field(default_factory=list)

    def state(self) -> dict[str, Tensor]:
        """The weights under their new names."""
        state = {self.layout.key(name): value for name, value in self.backbone.items()}
        return {**state, **{self.layout.classifier + part: v for part, v in self.head.items()}}

    def meta(self, verification: dict[str, Any]) -> dict[str, Any]:
        """Where the weights come from and what was done, as plain data.

        Args:
            verification: its result.
        """
        from dynbackbones import __version__

        now = datetime.datetime.now(datetime.timezone.utc)
        return {
            "converter": {"dynbackbones": __version__, "torch": str(torch.__version__)},
            "date": now.isoformat(timespec="seconds"),
            "format": self.layout.format,
            "backbone": self.architecture.name,
            "options": dict(self.architecture.options),
            "source": {
                "path": os.path.abspath(self.source.path),
                "sha256": self.source.sha256(),
                "format": self.source.format,
                "origin": self.source.origin,
                "config": self.source.meta.get("config"),
                "made_from": self.source.meta.get("source"),
            },
            "verification": verification,
            "remarks": list(self.remarks),
            "report": self.report.as_meta(),
        }

    def save(self, path: str | os.PathLike, verification: dict[str, Any]) -> None:
        """Writes the result; the file is either complete or not there.

        Raises:
            UserError: it cannot be written there.
        """
        meta = self.meta(verification)
        try:
            checkpoints.save(path, self.state(), meta, self.layout.weights_key)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error


# What networks around a ResNet add to it.
_DECIDING = re.compile(r"policy\.|layer\d\.(base|selectors|fusion)\.")


def convert(
    path: str | os.PathLike,
    target: str,
    *,
    source_format: str | None = None,
    source_key: str | None = None,
    source_prefix: str | None = None,
    backbone: str | None = None,
    prefix: str | None = None,
    classifier: bool = True,
    stride_in_1x1: bool = False,
) -> Conversion:
    """Gives a checkpoint the names of another library; nothing is written.

    Args:
        path: of the checkpoint.
        target: the library, of `TARGETS`, whose names it gets.
        source_format: the library, of `FORMATS`, that named its weights; found out if None.
        source_key: that its weights are under, with dots between several; found out if None.
        source_prefix: of the backbone's names in it; found out if None.
        backbone: name in `list_backbones`; found out if None. A plain network's name takes it out
            of one that decides, such as a BlockDrop network.
        prefix: of the backbone's new names; the usual one of the library if None.
        classifier: keep the last layer of a classification network.
        stride_in_1x1: the network has the strides of its bottlenecks in the first 1x1 convolution,
            as detectron2's zoo; weights do not show it.

    Raises:
        UserError: the file is unreadable, partial, of an unknown network or of another than was
            said, or the library has no such network.
    """
    source = read_source(path, source_key, source_prefix)
    _check_format(source, source_format)
    _drop_what_decides(source, backbone)
    known = _known_options(source, stride_in_1x1)
    architecture = find_architecture(source.backbone, source.path, backbone, known)
    if stride_in_1x1 and "stride_in_1x1" not in architecture.options:
        raise UserError(f"--stride-in-1x1: a {architecture.name} has no such convolutions")
    if source.format == "torchvision" and "torchvision" not in architecture.libraries:
        source.format = "dynbackbones"
    layout = layout_of(target, architecture, prefix)
    _check_head(source, architecture)
    if not classifier:
        source.report.drop("the classifier, as --no-classifier says", [*source.classifier.values()])
        source.classifier = {}
    _complete(source.report, source, architecture, layout)
    return Conversion(
        source,
        architecture,
        layout,
        source.backbone,
        source.head,
        source.report,
        remarks(source.origin, target, architecture, _stride_known(source, known), _pixels(source)),
    )


def _check_format(source: Source, said: str | None) -> None:
    if said is None or said == source.format:
        return
    if not (said in ALIKE and source.format in ALIKE and not source.prefix):
        raise UserError(
            f"--from {said}: checkpoint {source.path} has the names of {source.format}; leave "
            "--from away, or give another file"
        )
    source.format = said


def _drop_what_decides(source: Source, backbone: str | None) -> None:
    if backbone is None or not backbone.removeprefix("cifar_").startswith("resne"):
        return
    added = [key for key, name in source.names.items() if _DECIDING.match(name)]
    source.report.drop(f"what decides, which a {backbone} does not have", added)
    source.names = {key: name for key, name in source.names.items() if key not in added}
    source.added = {k: v for k, v in source.added.items() if not _DECIDING.match(k)}


def _known_options(source: Source, stride_in_1x1: bool) -> dict[str, Any]:
    """Options that weights do not show but the user, the format or an earlier conversion says."""
    options = {
        key: source.meta["options"][key]
        for key in ("stride_in_1x1", "base_scale")
        if key in source.meta.get("options", {})
    }
    # Only Caffe2's networks come without statistics.
    if stride_in_1x1 or any(key.endswith("running_mean") for key in source.added):
        options["stride_in_1x1"] = True
    return options


def _pixels(source: Source) -> str | None:
    return pixel_format({"meta": {"cfg": source.meta.get("config"), **source.meta}})


def _stride_known(source: Source, options: dict[str, Any]) -> bool:
    return "stride_in_1x1" in options or "converter" in source.meta


def _check_head(source: Source, architecture: Architecture) -> None:
    if not source.classifier:
        return
    channels = architecture.out_channels()
    weight, bias = source.head["weight"], source.head["bias"]
    if weight.shape[1] != channels or bias.shape != weight.shape[:1]:
        raise UserError(
            f"checkpoint {source.path}: the classifier {source.classifier['weight']} "
            f"{tuple(weight.shape)} does not fit the {channels} channels of a {architecture.name}; "
            "leave it out of the file, or give another"
        )


def _complete(report: Report, source: Source, architecture: Architecture, layout: Layout) -> None:
    """Writes down what became of each key of the file and of the network."""
    report.mapped = [(key, layout.key(name)) for key, name in source.names.items()]
    report.mapped += [(key, layout.classifier + part) for part, key in source.classifier.items()]
    for name in source.added:
        reason = _THRESHOLD if name.startswith("policy.") else _STATISTICS
        report.added.setdefault(reason, []).append(layout.key(name))
    # `find_architecture` has made sure that nothing else is missing.
    missed = sorted(architecture.state().keys() - source.backbone.keys())
    if missed:
        report.missed[_COUNTERS] = [layout.key(name) for name in missed]
