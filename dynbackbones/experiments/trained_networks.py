"""What is done with trained networks in a process of its own: calibrated, looked at, timed.

``dynbackbones compare`` starts it with a file that says what; see `training.ask`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dynbackbones.analysis.candidates import Candidate
from dynbackbones.analysis.latency import measure
from dynbackbones.backbones.dynamic import DynamicBackbone
from dynbackbones.errors import UserError
from dynbackbones.experiments.training import Network, Trained
from dynbackbones.inference.calibration import backbone_inputs, calibrate
from dynbackbones.integrations.user_modules import import_modules

CALIBRATION_IMAGES = 16
TIMED_IMAGES = 8


def open_trained(description: Mapping[str, Any]) -> Network:
    """Opens what `Trained` describes, in evaluation mode."""
    trained = Trained(**description)
    import_modules(trained.imports)
    if trained.kind == "detector":
        from dynbackbones.experiments.detectors import DetectorNetwork

        return DetectorNetwork(trained)
    from dynbackbones.experiments.mmengine_models import MmengineNetwork

    return MmengineNetwork(trained)


def look(trained: Mapping[str, Any], rate: float | None, weights: str, ratios: str | None) -> None:
    """Calibrates a network, if a rate is given, and writes where it refines.

    Args:
        trained: see `Trained`.
        rate: to meet on images of the training set.
        weights: file for the calibrated network.
        ratios: JSON file for `Network.object_ratios`, if these are wanted.

    Raises:
        UserError: the network decides nothing.
    """
    network = open_trained(trained)
    if rate is not None:
        if not isinstance(network.backbone, DynamicBackbone):
            raise UserError(
                f"{trained['config']} has a backbone that decides nothing, so it cannot be "
                f"calibrated to rate {rate:g}; take _rates_ away"
            )
        runs = network.runs(CALIBRATION_IMAGES, training=True)
        calibrate(network.backbone, backbone_inputs(network.backbone, runs), target_rate=rate)
        network.save(Path(weights))
    if ratios is not None:
        Path(ratios).write_text(json.dumps(network.object_ratios(), indent=1) + "\n", "utf-8")


@torch.inference_mode()
def time_side_by_side(networks: Sequence[Mapping[str, Any]], rounds: int, result: str) -> None:
    """Times whole networks image by image in turn, so that a busy machine hits all alike.

    Args:
        networks: see `Trained`.
        rounds: over all of them.
        result: JSON file for a list of seconds for each.
    """
    candidates = [
        Candidate(str(index), _next_image(open_trained(network)))
        for index, network in enumerate(networks)
    ]
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    seconds = measure(
        candidates,
        repeats=rounds,
        synchronize=synchronize,
        progress=lambda rounds: _printed(list(rounds)),
    )
    Path(result).write_text(json.dumps(seconds) + "\n", "utf-8")


def _next_image(network: Network) -> Callable[[], object]:
    """Runs another image each time; in each round all networks are at the same one."""
    runs = itertools.cycle(network.runs(TIMED_IMAGES))
    return lambda: next(runs)()


def _printed(rounds: list[int]):
    for turn in rounds:
        print(f"round {turn + 1} of {len(rounds)}", flush=True)
        yield turn


def main() -> None:
    """Does what the file in the first argument says."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    calls = {"look": look, "time_side_by_side": time_side_by_side}
    calls[job.pop("call")](**job)
