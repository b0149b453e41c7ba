"""Fitting a file's weights into a model: what of them goes where, found, checked and reported.

A model holds one backbone, at a *place*: the prefix of its names, such as ``"backbone.body."``. A
file holds either a whole model of the same kind, or a backbone, of which all else is left out.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from dynbackbones.checkpoints import names as key_maps
from dynbackbones.checkpoints.files import check_architecture, listed, without_counters
from dynbackbones.checkpoints.finding import Weights
from dynbackbones.errors import UserError

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's weights; batch norm's counters, which no result needs, aside.

    Attributes:
        source: the file or URL.
        place: of the backbone in the model: the prefix of its names, ``""`` for a backbone alone.
        whole: whether the file was taken as a whole model's, and not as a backbone's.
        loaded: names in the model that got the file's values.
        mapped: names in the file to names in the model, for those that differ.
        left_out: names in the file that found no use, such as a classifier's.
        new: names in the model that keep their initial values.
        reshaped: names of layers outside the backbone that have another shape in the file, to
            that shape and the model's; they are among `left_out` and `new`.
        remarks: what was unusual: where the weights were in the file, what was stripped off their
            names, what lies beside them and was not loaded.
    """

    source: str
    place: str
    whole: bool
    loaded: tuple[str, ...]
    mapped: Mapping[str, str]
    left_out: tuple[str, ...]
    new: tuple[str, ...]
    reshaped: Mapping[str, Shapes]
    remarks: tuple[str, ...] = ()

    def line(self, others: str = "start from scratch") -> str:
        """The report in one line for a log.

        Args:
            others: what pyramid and heads do where the file has a backbone alone.
        """
        what = f"the {'model' if self.whole else 'backbone'} from " if self.place else ""
        inside = [key.removeprefix(self.place) for key in self.new if key.startswith(self.place)]
        deciding = sorted({_part_name(key) for key in inside})
        parts = [f"loaded {what}{self.source}"]
        if deciding:
            parts.append(f"{', '.join(deciding)} start{'s' * (len(deciding) == 1)} anew")
        if self.place and not self.whole:
            parts.append(f"pyramid and heads {others}")
        if self.left_out:
            parts.append(f"left out {listed(self.left_out)}")
        return "; ".join([*parts, *self.remarks])

    def untrained(self) -> Iterator[str]:
        """A warning for each layer that keeps its initial values because the file's is another."""
        for key, (theirs, ours) in self.reshaped.items():
            yield f"{key} is {theirs} in {self.source} and {ours} here: it starts untrained"

    def lines(self) -> Iterator[str]:
        """The report in numbers, each with the first few names."""
        yield f"loaded {len(self.loaded)} keys from {self.source}"
        renamed = [f"{old} -> {new}" for old, new in self.mapped.items()]
        for label, keys in (("mapped", renamed), ("left out", self.left_out), ("new", self.new)):
            if keys:
                yield f"{label} {len(keys)}: {listed(keys)}"
        yield from self.remarks

    def __str__(self) -> str:
        return self.line()


def _part_name(key: str) -> str:
    """What a new weight of a backbone belongs to: ``"the policy network"``, ``"selectors"``."""
    first, second, *_ = [*key.split("."), ""]
    return second if first.startswith("layer") else f"the {first} network"


def fit(
    wanted: Mapping[str, Tensor],
    place: str | None,
    state: Mapping[str, Tensor],
    source: str | os.PathLike,
    *,
    optional: Collection[str] = (),
    prefix: str | None = None,
    allow_other_heads: bool = False,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Decides which of a file's weights a model gets, under the model's names.

    Args:
        wanted: the model's `state_dict()`.
        place: of the backbone in it, which may be a ResNet of detectron2's; None without one.
        state: the file's weights.
        source: names the file in messages.
        optional: names in ``wanted`` that the file may lack if it has none of them; see
            `decision_keys`.
        prefix, allow_other_heads: see `load_weights`.

    Raises:
        UserError: the weights are another network's.
    """
    own = _Part("", {}) if place is None else _part(wanted, place)
    found = _find(state, own, prefix, source)
    outside = wanted.keys() - own.names.keys()
    # What stands where only such models have a backbone is not a backbone alone.
    known = found.place in key_maps.PLACES and outside.isdisjoint(state)
    whole = prefix is None and (not found.names or (found.alike(own) and not known))
    targets, weights = _placed(state, found, own, whole)
    around = (place or "backbone.").partition(".")[0] + "."
    shapes = {
        key: (tuple(weights[key].shape), tuple(wanted[key].shape))
        for key in sorted(outside & weights.keys())
        if allow_other_heads and not key.startswith(around)
    }
    reshaped = {key: both for key, both in shapes.items() if both[0] != both[1]}
    # A backbone alone is spoken of in its own names.
    start = 0 if whole else len(own.place)
    needed = (wanted.keys() if whole else own.names.keys()) - reshaped.keys()
    check_architecture(
        {key[start:]: wanted[key] for key in needed},
        {key[start:]: value for key, value in weights.items() if key not in reshaped},
        source,
        optional=[key[start:] for key in needed & set(optional)],
    )
    fitted = {key: value for key, value in weights.items() if key in needed}
    report = LoadReport(
        source=os.fspath(source),
        place=own.place,
        whole=whole,
        loaded=tuple(fitted),
        mapped={old: new for old, new in targets.items() if old != new and new in fitted},
        left_out=tuple(without_counters(k for k in state if targets.get(k) not in fitted)),
        new=tuple(without_counters(wanted.keys() - fitted.keys())),
        reshaped=reshaped,
        remarks=tuple(state.remarks()) if isinstance(state, Weights) else (),
    )
    return fitted, report


def _placed(
    state: Mapping[str, Tensor], found: "_Part", own: "_Part", whole: bool
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Names in the file to those in the model, and what these get."""
    keys = {name: key for key, name in own.names.items()}
    targets = {old: keys.get(name, own.place + name) for old, name in found.names.items()}
    if whole:
        targets = {key: targets.get(key, key) for key in state}
    weights = {new: state[old] for old, new in targets.items()}
    # As in detectron2, norm layers without statistics get those of a new layer.
    added = key_maps.new_statistics({name: state[key] for key, name in found.renamed.items()})
    return targets, weights | {keys[name]: value for name, value in added.items() if name in keys}


@dataclass(frozen=True)
class _Part:
    """A backbone's weights among others.

    Attributes:
        place: the prefix of their names.
        names: their names to those that a backbone of this package has for them.
    """

    place: str
    names: dict[str, str]

    @property
    def renamed(self) -> dict[str, str]:
        """The part of `names` in which the file follows detectron2."""
        return {key: name for key, name in self.names.items() if key != self.place + name}

    @property
    def library(self) -> str | None:
        """Whose models have a backbone like this; None where several might."""
        return "detectron2" if self.renamed else key_maps.OWNERS.get(self.place)

    def alike(self, other: "_Part") -> bool:
        """Whether models of one kind have their backbone in both places."""
        # Where detectron2's ResNet stood, an adapter now has this package's as `net`.
        same = self.place in (other.place, other.place.removesuffix("net."))
        return same or (self.library is not None and self.library == other.library)


def _part(
    state: Mapping[str, Tensor],
    place: str,
    own: Collection[str] | None = None,
    detectron2_names: bool = True,
) -> _Part:
    """What stands at a place, without heads that are not among a backbone's ``own`` names."""
    names = {}
    for key in state:
        bare = key.removeprefix(place)
        head = own is not None and bare.startswith(key_maps.HEADS) and bare not in own
        if key.startswith(place) and not head:
            names[key] = (detectron2_names and key_maps.from_detectron2(bare)) or bare
    return _Part(place, names)


def _find(
    state: Mapping[str, Tensor], backbone: _Part, prefix: str | None, source: object
) -> _Part:
    """The part of a file that has most of a backbone's weights; an empty one if it has none."""
    own = set(backbone.names.values())
    if prefix is not None:
        place = f"{prefix.removesuffix('.')}." if prefix else ""
        if not any(key.startswith(place) for key in state):
            tops = sorted({f"{key.split('.')[0]}." for key in state})
            raise UserError(
                f"checkpoint {source} has no key that starts with prefix {place!r}; its keys start "
                f"with {', '.join(tops[:6])}"
            )
        return _part(state, place, own, detectron2_names=False)
    places = [backbone.place, backbone.place.removesuffix("net."), *key_maps.PLACES]
    if not backbone.place:
        # In a model, the file of another engine's detector is a mistake rather than a start.
        places.append("backbone.body.")
    parts = [_part(state, place, own) for place in places]
    best = max(parts, key=lambda part: len(own.intersection(part.names.values())))
    return _Part("", {}) if own.isdisjoint(best.names.values()) else best
