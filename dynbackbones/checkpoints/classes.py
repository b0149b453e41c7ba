"""What the outputs of a checkpoint's model stand for, as far as its file says it."""

from collections.abc import Mapping
from typing import Any


def trained_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes in the order of labels.

    Args:
        checkpoint: a file's content, as `dynbackbones.checkpoints.load` returns it.

    Returns:
        None where the file does not say.
    """
    meta = mapping(checkpoint.get("meta"))
    # Of this package; of mmengine; of the libraries before it.
    dataset = mapping(meta.get("dataset_meta"))
    places = meta.get("classes"), dataset.get("classes"), meta.get("CLASSES")
    for names in places:
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return tuple(names)
    return None


def mapping(value: Any) -> Mapping[str, Any]:
    """What a file has under a key, if it is what it should be; else nothing."""
    return value if isinstance(value, Mapping) else {}
