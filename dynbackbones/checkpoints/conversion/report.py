"""What became of every weight of a converted checkpoint."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Report:
    """Keys of a conversion.

    Attributes:
        mapped: pairs of a key of the file and its new name.
        dropped: keys of the file that have no place in the result, by reason.
        missed: keys of the network that the file lacks and that do not matter, by reason.
        added: keys of the result that are not in the file, by what they hold.
    """

    mapped: list[tuple[str, str]] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    missed: dict[str, list[str]] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, keys: list[str]) -> None:
        """Notes keys that are left out, if there are any."""
        if keys:
            self.dropped.setdefault(reason, []).extend(sorted(keys))

    def as_meta(self) -> dict:
        """Plain data for a checkpoint's ``meta``."""
        return {
            "mapped": [list(pair) for pair in self.mapped],
            "dropped": {reason: list(keys) for reason, keys in self.dropped.items()},
            "missed": {reason: list(keys) for reason, keys in self.missed.items()},
            "added": {reason: list(keys) for reason, keys in self.added.items()},
        }

    def lines(self, verbose: bool = False) -> Iterator[str]:
        """The report as text: counts with examples, or every key."""
        yield f"mapped {len(self.mapped)} keys"
        if verbose:
            yield from (f"    {old} -> {new}" for old, new in self.mapped)
        else:
            yield from (f"    {old} -> {new}" for old, new in self.mapped[:2])
        for kind in ("dropped", "missed", "added"):
            groups: dict[str, list[str]] = getattr(self, kind)
            if not groups:
                yield f"{kind} 0 keys"
            for reason, keys in groups.items():
                yield f"{kind} {_counted(keys)}: {reason}"
                shown = keys if verbose else keys[:2]
                yield from (f"    {key}" for key in shown)
                if len(keys) > len(shown):
                    yield "    ..."


def _counted(keys: list[str]) -> str:
    return f"{len(keys)} key" + ("" if len(keys) == 1 else "s")
