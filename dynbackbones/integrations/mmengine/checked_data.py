"""What a run of mmengine's reads: datasets that are not empty, files that are whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.registry import DATASETS

from dynbackbones.data import images
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.label_maps import check_depth, check_label_map

# How mmengine fails to pack the list of an empty dataset, and mmpretrain to find one.
_EMPTY = ("at least one array to concatenate", "Found 0 files")
_PLACES = ("data_root", "data_prefix", "ann_file", "img_suffix", "seg_map_suffix")
_FILES = {"img_path": "image", "seg_map_path": "label map"}


def build_dataset(config: Any, where: str = "dataset") -> Any:
    """A dataset whose files are named where they are broken.

    Args:
        config: of the dataset.
        where: says what it is for.

    Raises:
        UserError: it is empty.
    """
    with named_if_empty(config, where):
        dataset = DATASETS.build(config)
    if len(dataset) == 0:
        raise empty(config, where)
    guard(dataset)
    return dataset


@contextlib.contextmanager
def named_if_empty(config: Any, where: str) -> Iterator[None]:
    """Says of which dataset it is that it has nothing, if it cannot be built for that reason.

    Args:
        config: of the dataset that is built inside.
        where: says what it is for.

    Raises:
        UserError: it is empty; names it, and what it was told of its files.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if not any(text in str(error) for text in _EMPTY):
            raise
        raise empty(config, where) from error


def empty(config: Any, where: str) -> UserError:
    """The error for a dataset without samples; see `named_if_empty`."""
    parts = []
    for part in datasets_in(config):
        said = ", ".join(f"{key}={part[key]!r}" for key in _PLACES if part.get(key))
        parts.append(f"{type_name(part)}" + (f" ({said})" if said else ""))
    return UserError(
        f"{where} {' or '.join(parts)} is empty: check data_root, data_prefix, ann_file and "
        "img_suffix"
    )


def type_name(config: Mapping[str, Any]) -> str:
    """What a config's ``type`` is called, be it a name or the class itself."""
    kind = config.get("type")
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))).rpartition(
        "."
    )[2]


def datasets_in(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """The datasets' configs inside wrappers such as ConcatDataset."""
    if isinstance(dataset, Mapping):
        inner = dataset.get("datasets") or dataset.get("dataset")
        if inner is None:
            yield dataset
        for item in inner if isinstance(inner, list | tuple) else [inner]:
            yield from datasets_in(item)


def classes_of(dataset: Any) -> tuple[str, ...]:
    """Names of a dataset's classes in the order of its labels; empty where it has none."""
    metainfo = getattr(dataset, "metainfo", None) or {}
    return tuple(str(name) for name in metainfo.get("classes") or ())


def guard(dataset: Any) -> None:
    """Puts `CheckedLoading` around what loads files in a dataset, and in those inside of it."""
    for inner in getattr(dataset, "datasets", [getattr(dataset, "dataset", None)]):
        if inner is not None:
            guard(inner)
    transforms = getattr(getattr(dataset, "pipeline", None), "transforms", None)
    folders = _folders(dataset)
    for index, transform in enumerate(transforms or []):
        if type(transform).__name__.startswith("Load"):
            transforms[index] = CheckedLoading(transform, folders)


def _folders(dataset: Any) -> list[str]:
    """Where the files lie that an annotation file names; empty where nothing says it."""
    if not getattr(dataset, "ann_file", None):
        return []
    prefixes = getattr(dataset, "data_prefix", None)
    prefixes = prefixes.values() if isinstance(prefixes, Mapping) else [prefixes]
    folders = [getattr(dataset, "data_root", None), *prefixes]
    folders = [folder for folder in folders if isinstance(folder, str) and folder]
    return [] if any("://" in folder for folder in folders) else folders


class CheckedLoading:
    """A transform of OpenMMLab's that loads files, which names those that it cannot read.

    Label maps that it loads are looked at, see `label_maps`.

    Args:
        transform: takes and returns the dict of a sample.
        folders: of the dataset, out of which no path may lead; none if it has none.
    """

    def __init__(self, transform: Any, folders: Sequence[str] = ()) -> None:
        self.transform = transform
        self.folders = folders

    def __call__(self, results: dict) -> dict | None:
        labelled, seen = "gt_seg_map" in results, "img" in results
        self._check_places(results)
        try:
            loaded = self.transform(results)
        except UserError:
            raise
        except Exception:
            # Only if it is the file: a mistake of a program keeps its traceback.
            for key, what in _FILES.items():
                _check_file(results.get(key), what)
            raise
        if loaded is not None and "img" in loaded and not seen:
            _check_file(loaded.get("img_path"), "image", images.why_cut)
        if loaded is not None and "gt_seg_map" in loaded and not labelled:
            check_label_map(loaded)
            check_depth(loaded.get("seg_map_path"))
        return loaded

    def __repr__(self) -> str:
        return repr(self.transform)

    def _check_places(self, results: Mapping[str, Any]) -> None:
        for key, what in _FILES.items():
            path = results.get(key)
            if not self.folders or not isinstance(path, str):
                continue
            if all(images.leaves(folder, os.path.abspath(path)) for folder in self.folders):
                raise UserError(
                    f"{what} {path}, which the annotation file names, is outside of "
                    f"{' and '.join(self.folders)}; if that is meant, set data_root to a folder "
                    "that holds all of them"
                )


def _check_file(
    path: Any, what: str, why: Callable[[str], str | None] = images.why_unreadable
) -> None:
    reason = why(path) if isinstance(path, str) else None
    if reason:
        raise UserError(f"{what} {path} {reason}; copy it again, or leave it out of the dataset")
