"""Reading a checkpoint: which library named its weights, and which weight is which."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynbackbones import checkpoints
from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.conversion.report import Report
from dynbackbones.checkpoints.digest import sha256_of
from dynbackbones.errors import UserError

_BLOCKDROP_PARTS = {"resnet": "resnet", "agent": "agent", "net": "agent"}
# Names in such parts, which are called as others' networks are too.
_BLOCKDROP_NAME = re.compile(r"(module\.)*((features\.)?(blocks|ds)\.\d+\.\d+\.|logit\.)")
_PREFIX = {
    "detectron2": re.compile(r"(.*?)res2\.0\."),
    "own": re.compile(r"(.*?)(?:layer1\.|features\.1\.conv\.)"),
}
_SHOWN = 4


@dataclass
class Source:
    """A checkpoint, taken apart.

    Attributes:
        path: of the file.
        format: the library, of `FORMATS`, that named its weights.
        caffe2: whether a detectron2 file has Caffe2's names.
        prefix: of the backbone's names in the file.
        state: all weights of the file under their own names.
        names: for each key of the file that belongs to the backbone, its name in this package's
            networks.
        added: weights of the backbone that the file does not have but says by that.
        classifier: for weight and bias of the last layer, the file's keys; empty without one.
        meta: the file's, as far as it is plain data.
        report: what was dropped.
        remarks: what was unusual about where the weights were, see `LoadReport`.
    """

    path: str
    format: str
    state: dict[str, Tensor]
    names: dict[str, str]
    prefix: str = ""
    caffe2: bool = False
    added: dict[str, Tensor] = field(default_factory=dict)
    classifier: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    remarks: tuple[str, ...] = ()

    @property
    def backbone(self) -> dict[str, Tensor]:
        """The backbone's weights under this package's names."""
        return {**{name: self.state[key] for key, name in self.names.items()}, **self.added}

    @property
    def head(self) -> dict[str, Tensor]:
        """``weight`` and ``bias`` of the classifier; empty without one."""
        return {part: self.state[key] for part, key in self.classifier.items()}

    @property
    def origin(self) -> str:
        """Format of the first file, where this one is itself the result of a conversion."""
        return self.meta.get("source", {}).get("origin", self.format)

    def sha256(self) -> str:
        """Of the file."""
        return sha256_of(self.path)


def read_source(
    path: str | os.PathLike, key: str | None = None, prefix: str | None = None
) -> Source:
    """Reads a checkpoint and finds out which library named its weights.

    Args:
        path: of the file.
        key: that the weights are under in it; found out if None.
        prefix: of the backbone's names; found out if None.

    Raises:
        UserError: the file cannot be read safely, holds no network that is known here, or several.
    """
    path = os.fspath(path)
    checkpoint = checkpoints.load(path)
    if key is None and _is_blockdrop(checkpoint):
        source = _read_blockdrop(checkpoint, path)
    else:
        state = checkpoints.state_dict_of(checkpoint, f"checkpoint {path}", key)
        if any(key_maps.from_caffe2(name) for name in state):
            source = _read_caffe2(state, path)
        else:
            source = _read_named(state, path, prefix)
        source.remarks = tuple(state.remarks())
    source.meta = _meta_of(checkpoint)
    if source.format == "torchvision":
        source.format = source.meta.get("format", source.format)
    _check_finite(source)
    return source


def _is_blockdrop(checkpoint: Mapping[str, Any]) -> bool:
    parts = (checkpoint.get(part) for part in _BLOCKDROP_PARTS)
    names = (name for part in parts if isinstance(part, Mapping) for name in part)
    return any(isinstance(name, str) and _BLOCKDROP_NAME.match(name) for name in names)


def _read_blockdrop(checkpoint: Mapping[str, Any], path: str) -> Source:
    state = {}
    for part, name in _BLOCKDROP_PARTS.items():
        if isinstance(checkpoint.get(part), Mapping):
            weights = checkpoints.state_dict_of(checkpoint[part], f"{part} of checkpoint {path}")
            state.update({f"{name}.{key}": value for key, value in weights.items()})
    if not any(key.startswith("resnet.") for key in state):
        raise UserError(
            f"checkpoint {path} has no 'resnet', only the policy network of the curriculum; give "
            "one of the joint fine-tuning, which has both networks"
        )
    source = Source(path, "blockdrop", state, {})
    source.classifier = _classifier(state, ["resnet.fc."])
    value = [key for key in state if key.startswith("agent.vnet.")]
    legacy = [key for key in state if key.startswith("agent.features.fc.")]
    source.report.drop("the policy's value network, which nothing here uses", value)
    source.report.drop("a classifier that the policy network does not use", legacy)
    rest = state.keys() - set(value) - set(legacy) - set(source.classifier.values())
    source.names = {key: key_maps.from_blockdrop(key) or key for key in state if key in rest}
    if any(key.startswith("agent.") for key in state):
        source.added = {"policy.threshold": torch.zeros(())}
    return source


def _read_caffe2(state: dict[str, Tensor], path: str) -> Source:
    source = Source(path, "detectron2", state, {}, caffe2=True)
    source.classifier = _classifier(state, ["fc1000_", "pred_"], {"weight": "w", "bias": "b"})
    momentum = [key for key in state if key.endswith("_momentum")]
    source.report.drop("of the optimiser", momentum)
    source.report.drop(
        "a bias that detectron2 leaves out too", [key for key in state if key == "conv1_b"]
    )
    named = {key: key_maps.from_caffe2(key) for key in state if key != "conv1_b"}
    source.names = {key: name for key, name in named.items() if name}
    gone = {*source.names, *source.classifier.values(), *momentum, "conv1_b"}
    source.report.drop("no part of the backbone", [key for key in state if key not in gone])
    source.added = key_maps.new_statistics(source.backbone)
    return source


def _read_named(state: dict[str, Tensor], path: str, prefix: str | None) -> Source:
    naming, prefix = _find_backbone(state, path, prefix)
    inside = {key: key.removeprefix(prefix) for key in state if key.startswith(prefix)}
    if naming == "detectron2":
        source = Source(path, "detectron2", state, {}, prefix)
        bias = [key for key, name in inside.items() if name == "stem.conv1.bias"]
        source.report.drop("a bias that detectron2 leaves out too", bias)
        inside = {
            key: key_maps.from_detectron2(name) or name
            for key, name in inside.items()
            if key not in bias
        }
    else:
        source = Source(path, key_maps.OWNERS.get(prefix, "torchvision"), state, {}, prefix)
    heads = [*(prefix + name for name in key_maps.CLASSIFIERS), *key_maps.CLASSIFIERS]
    source.classifier = _classifier(state, heads)
    taken = set(source.classifier.values())
    if not prefix and "head.fc.weight" in taken:
        source.format = "openmmlab"
    source.names = {key: name for key, name in inside.items() if key not in taken}
    outside = [key for key in state if not key.startswith(prefix) and key not in taken]
    source.report.drop("no part of the backbone", outside)
    if naming == "detectron2":
        source.added = key_maps.new_statistics(source.backbone)
    return source


def _find_backbone(
    state: Mapping[str, Tensor], path: str, wanted: str | None
) -> tuple[str, str]:
    """The library that named the backbone's weights, and the prefix of their names."""
    found = [
        (naming, prefix)
        for naming, pattern in _PREFIX.items()
        for prefix in _matches(pattern, state)
        if not prefix.endswith("policy.")
    ]
    if not found:
        tops = sorted({key.partition(".")[0] for key in state})
        raise UserError(
            f"checkpoint {path} has no network that is known here: expected names such as "
            "layer1.0.conv1.weight, res2.0.conv1.weight or features.1.conv.0.0.weight, also below "
            f"a prefix; its keys start with {', '.join(tops[:_SHOWN])}"
        )
    prefixes = ", ".join(prefix or "no prefix" for _, prefix in found)
    if wanted is not None:
        prefix = f"{wanted.removesuffix('.')}." if wanted else ""
        found = [pair for pair in found if pair[1] == prefix]
        if not found:
            raise UserError(
                f"--from-prefix {wanted!r}: checkpoint {path} has no backbone there, but with "
                f"{prefixes}"
            )
    if len(found) > 1:
        raise UserError(
            f"checkpoint {path} has {len(found)} backbones ({prefixes}); name one with "
            "--from-prefix"
        )
    return found[0]


def _matches(pattern: re.Pattern, keys: Iterable[str]) -> list[str]:
    return sorted({match[1] for key in keys if (match := pattern.match(key))})


def _classifier(
    state: Mapping[str, Tensor],
    layers: Iterable[str],
    parts: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Keys of the first of some layers that is there and linear."""
    parts = parts or {"weight": "weight", "bias": "bias"}
    for layer in layers:
        keys = {part: layer + name for part, name in parts.items()}
        if all(key in state for key in keys.values()) and state[keys["weight"]].ndim == 2:
            return keys
    return {}


def _meta_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A file's meta if this package's converter wrote it, and the config that OpenMMLab keeps."""
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    if "converter" in meta:
        return dict(meta)
    config = meta.get("cfg")
    return {"config": config} if isinstance(config, str) else {}


def _check_finite(source: Source) -> None:
    bad = [
        key
        for key in (*source.names, *source.classifier.values())
        if source.state[key].is_floating_point() and not source.state[key].isfinite().all()
    ]
    if bad:
        raise UserError(
            f"checkpoint {source.path} holds values that are not finite in {len(bad)} keys "
            f"({', '.join(bad[:_SHOWN])}): its training diverged, or the file is damaged"
        )
