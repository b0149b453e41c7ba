"""The result of a check as text, as Markdown, and into a page.

    python -m tests.gpu.table output/gpu/check.json docs/gpu.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.gpu import report

BEGIN, END = "<!-- check-gpu -->", "<!-- /check-gpu -->"
"""Between which lines of a page the Markdown stands."""


def _rows(content: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for entry in content["steps"]:
        figures = [f"{name} {_plain(value)}" for name, value in entry.get("figures", {}).items()]
        said = entry.get("failures") or ([entry["why"]] if entry.get("why") else [])
        seconds = f"{entry['seconds']:.0f}" if entry["seconds"] else ""
        yield entry["name"], entry["result"], seconds, "; ".join([*map(str, said), *figures])


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _benchmark(content: dict[str, Any]) -> Iterator[str]:
    """The tables of the benchmark, as Markdown."""
    for entry in content["steps"]:
        found = entry.get("benchmark", {})
        for group in found.get("groups", ()):
            yield from report.table(group).splitlines()
        for left in found.get("left_out", ()):
            yield from ("", f"Left out: {left['what']}: {left['why']}.")


def text(content: dict[str, Any]) -> str:
    """Lines for a console, and the logs of what failed."""
    rows = [("step", "result", "s", "figures"), *_rows(content)]
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[3]]).rstrip())
    lines += _benchmark(content)
    for entry in content["steps"]:
        if entry.get("log"):
            lines += ["", f"{entry['name']}: the end of its log", *entry["log"][-15:]]
    return "\n".join(lines)


def markdown(content: dict[str, Any]) -> str:
    """The machine, a table of the steps, and those of the benchmark."""
    machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
    rows = [[cell.replace("|", "/") for cell in row] for row in _rows(content)]
    lines = [
        f"`make check-gpu` in {content['seconds']:.0f} s; {machine}.",
        "",
        "| step | result | seconds | figures |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        *_benchmark(content),
    ]
    return "\n".join(lines) + "\n"


def into_page(page: str, found: str) -> str:
    """A page with this between its markers.

    Raises:
        ValueError: it has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} with a {END} behind it")
    return f"{before}{BEGIN}\n{found}{END}{after}"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    result = markdown(json.loads(source.read_text(encoding="utf-8")))
    target.write_text(into_page(target.read_text(encoding="utf-8"), result), encoding="utf-8")
