"""A config's paths at the top, such as ``data_root``, that its datasets took when it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError

NAMES = ("data_root", "proposals")
_PARTS = ("_dataloader", "_dataset", "_evaluator")


def merge_options(cfg: Config, options: Mapping[str, Any], name: str) -> None:
    """Overrides of the command line, see `share_paths`.

    Args:
        cfg: changed in place.
        options: dotted keys to values.
        name: of the config, for messages.

    Raises:
        UserError: they do not fit.
    """
    share_paths(cfg, options)
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError) as error:
        raise UserError(f"--cfg-options do not fit {name}: {error.args[0]}") from error


def share_paths(cfg: Config, options: Mapping[str, Any]) -> None:
    """Has datasets and evaluators follow where an override moves a path at the top of a config.

    To mmengine such a name is a variable of the file: an override comes when datasets have taken
    its value already, and would do nothing, without a word.

    Args:
        cfg: before the overrides; changed in place.
        options: overrides of the command line.

    Raises:
        UserError: nothing in the config lies there.
    """
    for name in NAMES:
        if name not in options:
            continue
        old, new = cfg.get(name), options[name]
        places = [
            (holder, key)
            for part in cfg
            if part.endswith(_PARTS)
            for holder, key in _values(cfg[part])
            if (name in cfg and key == name and holder[key] == old) or _below(holder[key], old)
        ]
        if not places:
            raise UserError(
                f"--cfg-options {name}={new} would change nothing: no dataset of the config takes "
                f"its {name} from there; set {_place_of(cfg, name)}, and val_dataloader's"
            )
        for holder, key in places:
            rest = holder[key][len(old.rstrip("/")) :] if _below(holder[key], old) else ""
            holder[key] = f"{new.rstrip('/')}{rest}" if rest else new


def _place_of(cfg: Config, name: str) -> str:
    """Where the training's dataset takes such a path, below what wraps it."""
    place, dataset = "train_dataloader.dataset", cfg.get("train_dataloader", {}).get("dataset", {})
    while isinstance(dataset.get("dataset"), Mapping):
        place, dataset = f"{place}.dataset", dataset["dataset"]
    return f"{place}.{name}"


def _below(value: Any, folder: Any) -> bool:
    """Whether a value is that folder or a path in it."""
    texts = isinstance(value, str) and isinstance(folder, str) and folder.strip("/") != ""
    return texts and f"{value}/".startswith(f"{folder.rstrip('/')}/")


def _values(part: Any) -> Iterator[tuple[Any, Any]]:
    """Where the plain values of a part of a config stand: what holds them, and their key there."""
    keys = list(part) if isinstance(part, Mapping) else range(len(part))
    for key in keys:
        if isinstance(part[key], Mapping | list):
            yield from _values(part[key])
        else:
            yield part, key
