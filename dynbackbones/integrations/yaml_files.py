"""Merges YAML files and overrides of a command line into configs in detectron2's schema.

fvcore's ``CfgNode`` and detectron2's, which derives from it, are both accepted everywhere.
"""

import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from dynbackbones.errors import UserError
from dynbackbones.integrations.shipped_configs import find_config

_MISSING = object()
_TYPE_REMEDY = "write the value in the form of its default, such as 1.0 for a number with a point"


def merge_config(cfg: CfgNode, config_file: str, opts: Sequence[str] = ()) -> None:
    """Merges a YAML file (with its ``_BASE_`` files) and then ``KEY VALUE`` pairs into a config.

    YAML is read with the safe loader only: tags that run code are refused.

    Args:
        cfg: changed in place.
        config_file: path of a YAML file, see `find_config`; empty for none.
        opts: keys and values in turn, as they come from a command line.

    Raises:
        UserError: the file is missing or is not plain YAML, a key is unknown (names the nearest
            one), or a value has another type than the default.
    """
    if config_file:
        config_file = find_config(config_file)
        loaded, has_ours = _load_yaml(type(cfg), config_file)
        try:
            with _one_file(loaded) if has_ours else nullcontext(config_file) as file:
                cfg.merge_from_file(file, allow_unsafe=False)
        except KeyError as error:
            key = _first_unknown_key(loaded, cfg)
            reason = _unknown(key, cfg) if key else str(error.args[0])
            raise UserError(f"{config_file}: {reason}") from error
        except (ValueError, AssertionError) as error:
            raise UserError(f"{config_file}: {_one_line(error)}; {_TYPE_REMEDY}") from error
    misplaced = [option for option in opts if option.startswith("--")]
    if misplaced:
        raise UserError(
            f"{misplaced[0]} stands behind config overrides; options go before the first KEY VALUE"
        )
    if len(opts) % 2:
        raise UserError(f"config overrides must be pairs of KEY VALUE, got {' '.join(opts)!r}")
    for key, value in zip(opts[0::2], opts[1::2], strict=True):
        if get_key(cfg, key, _MISSING) is _MISSING:
            raise UserError(_unknown(key, cfg))
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, AssertionError) as error:
            raise UserError(f"{key} {value}: {_one_line(error)}; {_TYPE_REMEDY}") from error


def get_key(cfg: CfgNode, key: str, default: Any = None) -> Any:
    """The value at a dotted key such as ``"MODEL.SAR.DEPTH"``; ``default`` where there is none."""
    for part in key.split("."):
        if not isinstance(cfg, CfgNode) or part not in cfg:
            return default
        cfg = cfg[part]
    return cfg


def written_keys(config_file: str) -> dict[str, Any]:
    """What a YAML file and its ``_BASE_`` files say, by dotted keys such as ``"MODEL.SAR.DEPTH"``.

    Raises:
        UserError: the file is missing or is not plain YAML.
    """
    return dict(_flat_items(_load_yaml(CfgNode, find_config(config_file))[0]))


@contextmanager
def _one_file(loaded: Mapping[str, Any]) -> Iterator[str]:
    """A file of what was read from several, as `CfgNode` itself finds no bases elsewhere."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(dict(loaded), file)
        file.flush()
        yield file.name


def _load_yaml(node: type[CfgNode], config_file: str) -> tuple[dict[str, Any], bool]:
    """The content of a config file and its bases, as plain dicts.

    Returns:
        It, and whether a base is one of ours and not beside the file that names it.
    """
    if str(config_file).endswith(".py"):
        raise UserError(
            f"config file {config_file} is Python, and a YAML file is wanted here: mmengine's "
            "configs go with dynbackbones train and test, detectron2's lazy ones with its own "
            "lazyconfig_train_net.py"
        )
    if not os.path.isfile(config_file):
        raise UserError(f"config file {config_file} does not exist; check --config-file")
    reader = _finding_bases(node)
    try:
        loaded = reader.load_yaml_with_base(config_file, allow_unsafe=False)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(
            f"{config_file}{place}: not a plain YAML config ({problem}); "
            f"tags that run Python are not allowed"
        ) from error
    except ValueError as error:  # bytes that are no text, dates that are none
        raise UserError(f"{config_file}: not a plain YAML config ({error})") from error
    except RecursionError as error:
        raise UserError(
            f"{config_file}: its _BASE_ leads back to itself, or it is nested too deeply; mend that"
        ) from error
    except FileNotFoundError as error:
        raise UserError(f"{config_file}: its _BASE_ {error.filename} does not exist") from error
    except (TypeError, AttributeError):  # fvcore expects a mapping in every file
        loaded = None
    if not isinstance(loaded, Mapping):
        raise UserError(f"{config_file}: not a mapping of config keys")
    return loaded, reader.has_ours


def _finding_bases(node: type[CfgNode]) -> Any:
    """A kind of node that reads YAML as ``node`` does and finds bases as `find_config` does."""
    reading: list[str] = []

    class Finding(node):
        has_ours = False

        @classmethod
        def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
            if reading and not os.path.exists(filename):
                written = os.path.relpath(filename, os.path.dirname(reading[-1]))
                found = find_config(written, base_of=reading[-1])
                if os.path.exists(found):
                    cls.has_ours, filename = True, found
            reading.append(filename)
            try:
                return super().load_yaml_with_base(filename, allow_unsafe=allow_unsafe)
            finally:
                reading.pop()

    return Finding


def _flat_items(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flat_items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _first_unknown_key(loaded: Mapping[str, Any], cfg: CfgNode, prefix: str = "") -> str | None:
    """The first key of a loaded file that the config does not have and does not let in."""
    for key, value in loaded.items():
        if key not in cfg:
            if cfg.is_new_allowed():
                continue
            return prefix + str(key)
        if isinstance(value, Mapping) and isinstance(cfg[key], CfgNode):
            unknown = _first_unknown_key(value, cfg[key], f"{prefix}{key}.")
            if unknown:
                return unknown
    return None


def _one_line(error: Exception) -> str:
    """The message of an error that may quote a whole config node."""
    return " ".join(str(error).split())


def _unknown(key: str, cfg: CfgNode) -> str:
    """What to tell about an unknown key: the known one that looks most like it."""
    keys = [name for name, _ in _flat_items(cfg)]
    nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
    first, node, *_ = f"{key}.".split(".")
    own = first == "MODEL" and not difflib.get_close_matches(node, cfg.MODEL, cutoff=0.7)
    hint = " Options of a backbone of your own need --import with its module." if own else ""
    return f"unknown config key {key}; did you mean {nearest[0]}?{hint}"
