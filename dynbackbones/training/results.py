"""The file with a run's metrics, the same from every engine."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any


def write_results(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Writes metrics as JSON; a metric that is not a number (AP without detections) is null."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(_plain(results), file, indent=2)
        file.write("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return float(value) if value is not None and math.isfinite(value) else None
