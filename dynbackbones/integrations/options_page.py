"""The reference of options, ``docs/options.md``, made of constructors and their docstrings.

``python -m dynbackbones.integrations.options_page > docs/options.md``, or ``make docs``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dynbackbones.backbones.factory import RegisteredBackbone, registered_backbones
from dynbackbones.integrations import options
from dynbackbones.integrations.config import builder_names

HEADER = """\
# Options of the backbones

Made of the constructors by `make docs`. An option is a keyword of the class, of
`dynbackbones.build_backbone(name, ...)` and of the lazy configs; a key in YAML, where 0 or ""
stands for None; and an argument of the type of the same name (`StaticResNet` for `ResNet`,
`StaticMobileNetV2` for `MobileNetV2`) in OpenMMLab's configs, beside `out_indices`, `norm_eval`,
`init_cfg` and, for a `selection` by name, `selection_rate`. Some have OpenMMLab's own names there:

| here | OpenMMLab |
|---|---|
| `norm` | `norm_cfg`, such as `dict(type="SyncBN")` |
| `freeze_at` | `frozen_stages`, which is one less: -1 freezes nothing |
| `output_stride` | the same, or `strides` and `dilations` |
| `activation_checkpointing` | `with_cp` |
"""


class Option(NamedTuple):
    """A row of the reference.

    Attributes:
        name: of the constructor's argument.
        default: as Python writes it.
        key: in YAML; empty where there is none.
        meaning: what the docstring says.
    """

    name: str
    default: str
    key: str
    meaning: str


def page() -> str:
    """The whole page, about the backbones of this package."""
    entries = registered_backbones().values()
    ours = [e for e in entries if e.constructor.__module__.startswith("dynbackbones.")]
    return "\n".join([HEADER, *map(_section, ours)])


def argument_docs(thing: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of a class says of its arguments or fields, by their names."""
    text = inspect.getdoc(thing) or ""
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n|\n)*)", f"{text}\n", re.MULTILINE)
    found = {}
    for entry in re.split(r"^    (?! )", section[1] if section else "", flags=re.MULTILINE):
        names, _, meaning = " ".join(entry.split()).partition(": ")
        found |= dict.fromkeys(names.split(", "), meaning.replace("``", "`"))
    return found


def _section(entry: RegisteredBackbone) -> str:
    network = options.network_of(entry)
    rows, like = [], {}
    for option in _constructor_options(entry):
        other = re.fullmatch(r"see `(\w+)`\.", option.meaning)
        if other and _default_in(other[1], option.name) == option.default:
            like.setdefault(other[1], []).append(f"`{option.name}`")
        else:
            rows.append(option)
    lines = [f"## {network.__name__}", "", _names(entry), "", *_table(rows)]
    for name, same in like.items():
        lines += [f"As `{name}` has them: {', '.join(same)}.", ""]
    if entry.node and getattr(network, "training_options", None):
        lines += [
            "How rewards train the decisions; in OpenMMLab's configs these stand in",
            "`DynamicBackboneHook(policy=dict(...))`:",
            "",
            *_table(_training_options(entry)),
        ]
    return "\n".join(lines)


def _names(entry: RegisteredBackbone) -> str:
    text = f"Built as {_listed(entry.names)}"
    if entry.node:
        text += f"; `MODEL.BACKBONE.NAME` is {_listed(builder_names(entry).values())}"
    return f"{text}."


def _constructor_options(entry: RegisteredBackbone) -> list[Option]:
    network = options.network_of(entry)
    meanings = argument_docs(network)
    found = [
        Option(name, _written(p.default), options.yaml_key(entry, name), meanings[name])
        for name, p in options.parameters_of(entry.constructor).items()
    ]
    for name, factor in getattr(network, "lr_factors", {}).items():
        key = options.yaml_key(entry, f"{name}_lr_factor")
        meaning = f"factor of the learning rate of `own_parameters()[{name!r}]`"
        found += [Option("", _written(factor), key, meaning)] if key else []
    key = options.yaml_key(entry, "selection_rate")
    if key:
        found.append(Option("", "0.5", key, "share that `SELECTION` computes, where it needs one"))
    return found


def _training_options(entry: RegisteredBackbone) -> list[Option]:
    made = options.network_of(entry).training_options
    meanings = argument_docs(made)
    return [
        Option(name, _written(p.default), options.yaml_key(entry, name), meanings[name])
        for name, p in options.parameters_of(made).items()
    ]


def _default_in(network: str, option: str) -> str | None:
    """The default that an option has in another of the networks."""
    for entry in registered_backbones().values():
        parameters = options.parameters_of(entry.constructor)
        if options.network_of(entry).__name__ == network and option in parameters:
            return _written(parameters[option].default)
    return None


def _written(default: Any) -> str:
    return "" if default is inspect.Parameter.empty else repr(default).replace("'", '"')


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(rows: Iterable[Option]) -> list[str]:
    lines = ["| option | default | in YAML | |", "|---|---|---|---|"]
    for row in rows:
        cells = [f"`{cell}`" if cell else "" for cell in row[:3]]
        lines.append(f"| {' | '.join(cells)} | {row.meaning.rstrip('.')} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(page(), end="")
