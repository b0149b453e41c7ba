"""The file with a run's metrics, the same from every engine."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.errors import UserError

RESULTS = "results.json"
TEST_RESULTS = "test_results.json"
# What a table of runs shows: heading, part of the file, name there.
_COLUMNS = (
    ("AP", "bbox", "AP"),
    ("AP50", "bbox", "AP50"),
    ("GMACs", "backbone", "gmacs"),
    ("activation rate", "backbone", "activation_rate"),
    ("block usage", "backbone", "block_usage"),
)


def write_results(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Writes metrics as JSON; a metric that is not a number (AP without detections) is null."""
    write_json(path, _plain(results), indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return float(value) if value is not None and math.isfinite(value) else None


def results_table(folders: Iterable[Path]) -> str:
    """Runs of detectors, one a line: accuracy, and what the backbone spent.

    Args:
        folders: with the ``results.json`` of a run each, which a line is called after.

    Raises:
        UserError: a folder has none, or another kind of file in its place.
    """
    runs = {folder.name: _of_detector(folder) for folder in folders}
    values = {
        heading: {name: run.get(part, {}).get(key) for name, run in runs.items()}
        for heading, part, key in _COLUMNS
    }
    shown = {heading: v for heading, v in values.items() if any(x is not None for x in v.values())}
    width = max(map(len, runs))
    lines = ["  ".join(["run".ljust(width), *shown])]
    for name in runs:
        cells = [_cell(column[name]).rjust(len(heading)) for heading, column in shown.items()]
        lines.append("  ".join([name.ljust(width), *cells]))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.2f}"


def read_results(folder: Path, name: str = RESULTS) -> Mapping[str, Any]:
    """What `write_results` wrote into the folder of a run.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    file = folder / name
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): train that run first") from None
    if not isinstance(results, Mapping):
        raise UserError(f"{file} does not hold the results of a run")
    return results


def _of_detector(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    results = read_results(folder)
    if not all(isinstance(part, Mapping) for part in results.values()):
        raise UserError(f"{folder / RESULTS} does not hold the results of a detector")
    return results
