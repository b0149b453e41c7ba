"""Images of users' files: whole, upright, and 8 bits deep whatever the file has."""

import functools
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from dynbackbones.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files in a folder that are taken for images."""

_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
# Readers that start programs, or hand the file to whatever the user's process has registered.
_NO_IMAGES = {"EPS", "WMF", "FPX", "MIC", "BUFR", "GRIB", "HDF5", "MPEG", "STUB"}
_TURNED = range(2, 9)
# How files of a format begin, and end.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


def read_image(path: str | os.PathLike, size: tuple[int, int] | None = None) -> "Image":
    """Reads an image whole, as RGB, turned upright by its EXIF orientation (as detectron2 does).

    Of samples with 16 bits the upper 8 count, as OpenCV and Pillow take them of colour images.

    Args:
        path: the file.
        size: (width, height) that its annotations say; None if nothing says it.

    Raises:
        UserError: the file is missing, truncated, not an image, of too many pixels, of a depth
            that nothing says how to show in 8 bits, or of another size.
    """
    # Here and not above: the core package does without Pillow.
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_formats()) as image:
            file_size, turned = image.size, image.getexif().get(_ORIENTATION) in _TURNED
            image.load()
            deep = _depth(image)
            upright = ImageOps.exif_transpose(image)
            if not deep:
                upright = upright.convert("RGB")
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist; complete the dataset") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"image {path} ({os.path.getsize(path)} bytes) has too many pixels ({error}); cut it "
            "into parts, or remove it from the annotations"
        ) from error
    except Exception as error:  # decoders fed with arbitrary bytes raise anything
        raise UserError(
            f"image {path} is truncated or not an image ({_reason(error)}); "
            "copy it again or remove it from the annotations"
        ) from error
    if size is not None and upright.size != size:
        raise UserError(_other_size(path, upright.size, file_size if turned else None, size))
    if not deep:
        return upright
    return Image.fromarray(_upper_bits(np.asarray(upright), deep, path)).convert("RGB")


def import_cv2() -> ModuleType:
    """OpenCV, which the core package does without.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "optical flow, videos and edges need OpenCV; install it: "
            "pip install opencv-python-headless"
        ) from error
    return cv2


def cv2_name(path: str | os.PathLike) -> str:
    """A path as OpenCV takes it, which ends the process at names that are no text.

    Raises:
        UserError: so it is.
    """
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"OpenCV cannot open {name!r}, which is no UTF-8; rename it") from error
    return name


def check_header(path: str | os.PathLike) -> None:
    """Refuses what `read_image` would, as far as a file's header tells, or would scale.

    For readers of other libraries, which cut off what is deeper than 8 bits.

    Raises:
        UserError: so it is.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_formats()) as image:
            deep = _depth(image)
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError):
        read_image(path)  # says what is wrong
        return
    if deep:
        raise UserError(
            f"image {path} has {deep} bits per pixel, of which this reader would show white; "
            "convert it to 8 bits"
        )


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of an image as `read_image` gives it, from its header.

    Raises:
        UserError: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_formats()) as image:
            turned = image.getexif().get(_ORIENTATION) in range(5, 9)
            return image.size[::-1] if turned else image.size
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError):
        return read_image(path).size  # or says what is wrong


def image_files(folder: str | os.PathLike) -> list[str]:
    """Names of the images in a folder and those in it (see `is_image`), relative to it, in order.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"image folder {folder} does not exist; name one that does")
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    names = sorted(name for name, path in found.items() if is_image(name) and path.is_file())
    if not names:
        raise UserError(
            f"image folder {folder} holds no image ({', '.join(EXTENSIONS)}); name another one"
        )
    return names


def is_hidden(path: str) -> bool:
    """Whether a file or folder is a tool's own, such as ``.ipynb_checkpoints`` and ``__MACOSX``.

    Args:
        path: relative to the images' folder; a hidden folder hides what is in it.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in Path(path).parts)


def is_image(path: str) -> bool:
    """Whether a file, relative to the images' folder, is an image by its name."""
    return path.lower().endswith(EXTENSIONS) and not is_hidden(path)


def turned_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """(width, height) of an image in its file, if its EXIF orientation turns it; else None."""
    from PIL import Image

    try:
        with Image.open(path, formats=_formats()) as image:
            return image.size if image.getexif().get(_ORIENTATION) in _TURNED else None
    except Exception:  # it is asked to explain an error, and must not replace it
        return None


def why_unreadable(path: str | os.PathLike) -> str | None:
    """What is wrong with a file that should be an image; None if nothing, or if it is no such.

    Other than `read_image` it takes any depth, as files of labels have.
    """
    from PIL import Image

    if not os.path.exists(path):
        # What another reader finds elsewhere is not missed here.
        return None if "://" in os.fspath(path) else "does not exist"
    if os.path.splitext(path)[1].lower() not in Image.registered_extensions():
        return None
    try:
        with Image.open(path, formats=_formats()) as image:
            image.load()
    except Exception as error:
        return f"is truncated or not an image ({_reason(error)})"
    return None


def why_cut(path: str | os.PathLike) -> str | None:
    """What is wrong with a JPEG or PNG that ends early, of which OpenCV shows the beginning.

    None for all that ends as it should, which only looks at the ends of a file, and other files.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            file.seek(max(0, os.path.getsize(path) - 64))
            tail = file.read().rstrip(b"\0")
    except OSError:
        return None
    ends = [end for begin, end in _ENDS.items() if head.startswith(begin)]
    return why_unreadable(path) if ends and not tail.endswith(ends[0]) else None


def leaves(folder: str | os.PathLike, name: str) -> bool:
    """Whether a path, or a name inside of a folder, leads out of it.

    By the text alone: links are the user's own.
    """
    root = os.path.join(os.path.abspath(folder), "")
    return not os.path.normpath(os.path.join(root, name)).startswith(root)


EXIF_REMEDY = (
    "they were made for the image as it lies in the file, which its EXIF orientation turns: remove "
    "that (exiftool -Orientation= FILE), or annotate the upright image"
)


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NO_IMAGES)


def _depth(image: "Image") -> int:
    """Bits of a sample where an image is deeper than 8; 0 where it is not."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        return 32
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return 0
    given = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return int(given[0] if isinstance(given, tuple) else given)


def _upper_bits(values: np.ndarray, bits: int, path: str | os.PathLike) -> np.ndarray:
    highest = values.max(initial=0)
    if not 8 <= bits <= 16 or values.min(initial=0) < 0 or highest >= 1 << bits:
        raise UserError(
            f"image {path} has {bits} bits per pixel, and nothing says which value is white; "
            "convert it to 8 bits"
        )
    # Of 12 or 10 bits in 16: nearly black, and nobody knows how many there are.
    if 0 < highest < 1 << (bits - 4):
        raise UserError(
            f"image {path} has {bits} bits per pixel, but no value above {highest}: as 8 bits it "
            "would be black; scale it to its own range and convert it to 8 bits"
        )
    return (values >> (bits - 8)).astype(np.uint8)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _other_size(
    path: str | os.PathLike,
    found: tuple[int, int],
    in_file: tuple[int, int] | None,
    said: tuple[int, int],
) -> str:
    remedy = EXIF_REMEDY if in_file == said else "correct the annotation file"
    return (
        f"image {path} is {found[0]} x {found[1]} pixels, but its annotations say {said[0]} x "
        f"{said[1]}; {remedy}"
    )
