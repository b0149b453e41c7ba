"""Whether data, other data and weights mean the same classes: by name, never by position alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynbackbones.errors import UserError

_SHOWN = 5


@dataclass(frozen=True)
class Classes:
    """What a model's outputs stand for.

    Attributes:
        names: in the order of its labels.
        whose: what has them, for messages: a dataset or a checkpoint.
    """

    names: tuple[str, ...]
    whose: str


def class_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the categories of a COCO annotation file in the order of their ids: of labels."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return tuple(category["name"] for category in categories)


def labels_of(names: Sequence[str], classes: Classes, where: str) -> list[int]:
    """A model's label for each of some names; capitals and spaces around them do not matter.

    Args:
        names: of all its classes, in an order of their own.
        classes: what the model knows.
        where: what has the names, for messages.

    Raises:
        UserError: a name is not among the model's, or another is missing.
    """
    theirs, ours = _plain(names), _plain(classes.names)
    if theirs == ours:
        return list(range(len(ours)))
    unknown = [name for name, plain in zip(names, theirs, strict=True) if plain not in set(ours)]
    if sorted(theirs) != sorted(ours) or len(set(ours)) < len(ours):
        what = f"{unknown[0]!r} is none of" if unknown else f"{_listed(names)} are not"
        raise UserError(
            f"{where} has other categories than {classes.whose}: {what} {_listed(classes.names)}; "
            "rename the categories of one of them, or use others"
        )
    return [ours.index(name) for name in theirs]


def same_names(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether these are the same names, in whatever order."""
    return sorted(_plain(names)) == sorted(_plain(others))


def match_classes(content: dict[str, Any], classes: Classes, where: str) -> bool:
    """Gives a file's categories a model's names, and ids in the order of its labels.

    Args:
        content: of an annotation file, from `normalise`; changed in place.
        classes: what the model knows.
        where: names the file in messages.

    Returns:
        Whether their order was another.

    Raises:
        UserError: see `labels_of`.
    """
    labels = labels_of(class_names(content), classes, where)
    ids = sorted(category["id"] for category in content["categories"])
    label_of = dict(zip(ids, labels, strict=True))
    for category in content["categories"]:
        category["name"] = classes.names[label_of[category["id"]]]
    if labels == sorted(labels):
        return False
    for category in content["categories"]:
        category["id"] = label_of[category["id"]] + 1
    for annotation in content["annotations"]:
        annotation["category_id"] = label_of[annotation["category_id"]] + 1
    return True


def _plain(names: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
