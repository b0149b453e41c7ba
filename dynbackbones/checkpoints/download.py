"""Weights from elsewhere: a URL or a name of torchvision's becomes a local file, once."""

import hashlib
import logging
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import torch

from dynbackbones.errors import UserError

_SCHEMES = ("https", "http", "ftp", "file")
# As torchvision names its files, by what is in them.
_DIGEST = re.compile(r"-[0-9a-f]{8,}\.")


def local_file(source: str | os.PathLike) -> str:
    """The local file of a path, a URL (downloaded once) or ``torchvision://`` and a model's name.

    Raises:
        UserError: the scheme is not known, torchvision has no such model, or the download failed.
    """
    source = os.fspath(source)
    scheme = re.match(r"(\w[\w-]*)://", source)
    if scheme is None:
        return source
    if scheme[1] == "torchvision":
        return _download(_torchvision_url(source))
    if scheme[1] in _SCHEMES:
        return _download(source)
    raise UserError(
        f"checkpoint {source}: {scheme[1]}:// is not known here; give a file, an https:// URL or "
        "torchvision://resnet50"
    )


def cached_path(url: str) -> Path:
    """Where a download is kept, which is where torchvision keeps its own.

    Where that is taken by the file of another URL, its name has a digest of the URL.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    origin = _origin(path)
    if origin is None or origin == url:
        return path
    return path.with_stem(f"{path.stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}")


def _origin(path: Path) -> str | None:
    """The URL that a file was downloaded from, if that was written down."""
    record = _record(path)
    return record.read_text(encoding="utf-8") if path.exists() and record.exists() else None


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.url")


def _torchvision_url(source: str) -> str:
    from torchvision import models

    name = source.removeprefix("torchvision://")
    try:
        weights = models.get_model_weights(name)
    except ValueError as error:
        raise UserError(
            f"checkpoint {source}: torchvision has no model {name}; for example resnet50"
        ) from error
    return next(iter(weights)).url


def _download(url: str) -> str:
    path = cached_path(url)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, os.fspath(path), progress=sys.stderr.isatty())
        except OSError as error:
            raise UserError(
                f"checkpoint {url} cannot be downloaded ({error}); download it by hand and give "
                "the file"
            ) from error
        _record(path).write_text(url, encoding="utf-8")
    elif _origin(path) is None and _DIGEST.search(path.name) is None:
        logging.getLogger("dynbackbones").warning(
            f"for {url} the file {path} is taken, which was there before; remove it if it is of "
            "another URL"
        )
    return os.fspath(path)
