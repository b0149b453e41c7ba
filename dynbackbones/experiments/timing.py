"""Milliseconds of the networks of a table, measured side by side in one process at its end."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynbackbones.experiments.training import Trained, ask

MILLISECONDS = "milliseconds"
"""Metric: median time of the whole network for an image, on one thread."""
ROUNDS = 24
_FILE = "seconds.json"


def with_milliseconds(
    results: Mapping[str, Mapping[int, Mapping[str, Any]]],
    folder: Path,
    networks: Mapping[str, Trained],
    digests: Mapping[str, str],
) -> dict[str, dict[int, dict[str, Any]]]:
    """Results with `MILLISECONDS` among the metrics of each first cell.

    Args:
        results: name to seed to cell.
        folder: for the measurement, which counts as long as it is of the same networks.
        networks: name to network.
        digests: name to the settings of its cell.

    Raises:
        UserError: a network cannot be opened.
    """
    seconds = _measured(folder, networks, digests)
    timed = {name: dict(cells) for name, cells in results.items()}
    for name, values in seconds.items():
        seed, cell = next(iter(timed[name].items()))
        quartiles = statistics.quantiles(values, n=4, method="inclusive")
        metrics = {**cell["metrics"], MILLISECONDS: 1e3 * statistics.median(values)}
        timed[name][seed] = {
            **cell,
            "metrics": metrics,
            "milliseconds_quartiles": [1e3 * quartiles[0], 1e3 * quartiles[2]],
        }
    return timed


def _measured(
    folder: Path, networks: Mapping[str, Trained], digests: Mapping[str, str]
) -> dict[str, list[float]]:
    file, names = folder / _FILE, list(networks)
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["networks"] == dict(digests):
            return before["seconds"]
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(names)} networks in turn, {ROUNDS} rounds, one thread: {folder}", flush=True)
    part = folder / "measured.json"
    job = {"networks": list(networks.values()), "rounds": ROUNDS, "result": os.fspath(part)}
    ask("time_side_by_side", job, folder, threads=1)
    seconds = dict(zip(names, json.loads(part.read_text(encoding="utf-8")), strict=True))
    content = {"networks": dict(digests), "seconds": seconds}
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(file)
    return seconds
