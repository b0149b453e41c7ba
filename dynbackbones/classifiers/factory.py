"""Names of classifiers to their classes."""

import difflib
import inspect
from typing import Any

from dynbackbones.backbones import list_backbones
from dynbackbones.classifiers.bagnet import BagNet
from dynbackbones.classifiers.base import DynamicClassifier
from dynbackbones.classifiers.glance_focus import GlanceFocusClassifier, torchvision_encoder
from dynbackbones.classifiers.patchdrop import PatchDrop

_CLASSES = {"patchdrop_": PatchDrop, "bagnet_": BagNet, "glance_focus_": GlanceFocusClassifier}
# What a method takes besides our backbones.
_OTHERS = {"glance_focus_": torchvision_encoder.NAMES}


def list_classifiers() -> list[str]:
    """Names that `build_classifier` knows, sorted: a method's, then its backbone's.

    Example:
        >>> import dynbackbones
        >>> "patchdrop_resnet50" in dynbackbones.list_classifiers()
        True
    """
    return sorted(prefix + name for prefix in _CLASSES for name in _encoders(prefix))


def _encoders(prefix: str) -> list[str]:
    return [*list_backbones(), *_OTHERS.get(prefix, ())]


def build_classifier(name: str, num_classes: int, **options: Any) -> DynamicClassifier:
    """Builds a classifier that chooses where it looks.

    Args:
        name: one of `list_classifiers`.
        num_classes: number of classes.
        **options: of the class's constructor: `PatchDrop`, `BagNet` or
            `GlanceFocusClassifier`.

    Raises:
        ValueError: the name is not known.
        TypeError: an option is not known; says the nearest one.

    Example:
        >>> import dynbackbones
        >>> net = dynbackbones.build_classifier("patchdrop_cifar_resnet32", num_classes=10)
        >>> net.grid, net.scale, round(net.macs(32, 32, share=0.5) / 1e6, 1)
        (4, 4, 73.9)
    """
    prefix = next((prefix for prefix in _CLASSES if name.startswith(prefix)), "")
    encoder = name.removeprefix(prefix)
    if not prefix or encoder not in _encoders(prefix):
        near = difflib.get_close_matches(name, list_classifiers(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"unknown classifier {name!r}{hint}; known are {', '.join(_CLASSES)} before the "
            "name of a backbone, see list_classifiers()"
        )
    known = list(inspect.signature(_CLASSES[prefix]).parameters)[2:]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{name} has no option {option!r}; {meant}")
    return _CLASSES[prefix](encoder, num_classes, **options)
