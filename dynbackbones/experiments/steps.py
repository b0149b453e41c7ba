"""Steps of an experiment whose results and weights are kept, so that none is made twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dynbackbones import checkpoints
from dynbackbones.checkpoints.whole_file import write_json
from dynbackbones.errors import UserError


@dataclass(frozen=True)
class Cells:
    """Where an experiment's steps are kept.

    Attributes:
        folder: of this experiment and seed.
        settings: everything that all steps depend on; another experiment's are refused.
    """

    folder: Path
    settings: Mapping[str, Any]

    def made(
        self, name: str, make: Callable[[], Mapping[str, Any]], net: nn.Module | None = None
    ) -> dict[str, Any]:
        """What ``make`` returned when the step was first wanted, with ``cpu_seconds``.

        Args:
            name: of the step.
            make: the work.
            net: trained by it; it ends with the step's weights either way.

        Raises:
            UserError: the folder has that step with other settings.
        """
        file, weights = self.folder / f"{name}.json", self.folder / f"{name}.pth"
        settings = json.loads(json.dumps(dict(self.settings)))
        if file.exists():
            cell = json.loads(file.read_text(encoding="utf-8"))
            if cell["settings"] != settings:
                raise UserError(
                    f"step {file} was made with other settings; name another folder with --output, "
                    "or delete it"
                )
            if net is not None:
                net.load_state_dict(checkpoints.state_dict_of(checkpoints.load(weights), weights))
                net.eval()
            return cell["result"]
        start = time.process_time()
        result = {**make(), "cpu_seconds": 0.0}
        result["cpu_seconds"] = round(time.process_time() - start, 1)
        if net is not None:
            checkpoints.save(weights, net.state_dict(), {})
        write_json(file, {"settings": settings, "result": result})
        return result


def write_tables(
    folder: Path, name: str, results: Mapping[str, Any], lines: Iterable[str]
) -> str:
    """Writes an experiment's results as JSON and its tables as Markdown.

    Args:
        folder: of the experiment.
        name: of both files.
        results: as they are.
        lines: of the tables.

    Returns:
        The tables.
    """
    text = "\n".join(lines) + "\n"
    for suffix, content in (("json", json.dumps(results, indent=1)), ("md", text)):
        (folder / f"{name}.{suffix}").write_text(content, encoding="utf-8")
    return text
