"""What a run was configured as, in its checkpoints, so that another run does not continue it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from dynbackbones.errors import UserError

RUN_CONFIG = "run_config"
# What may differ when a run is continued: where files lie, mixed precision, how a batch is divided.
_FREE = ("init_cfg", "pretrained", "loss_scale", "optim_wrapper.type", "accumulative_counts")
_ABSENT = "absent"


def describe(cfg: Config) -> str:
    """What a continued run must have in common with the run before, as JSON.

    A config itself is Python, which nobody should run from a checkpoint.
    """
    flat = {
        key: value
        for name in ("model", "optim_wrapper", "total_batch_size")
        for key, value in _flat(cfg.get(name), name)
        if not any(part in key for part in _FREE)
    }
    dataset = (cfg.get("train_dataloader") or {}).get("dataset")
    if isinstance(dataset, Mapping):
        dataset = dataset.get("dataset", dataset)
        flat["train_dataloader.dataset.type"] = str(dataset.get("type"))
    return json.dumps(flat, sort_keys=True)


def check_same_run(cfg: Config, checkpoint: Mapping[str, Any], path: str) -> None:
    """Makes sure that a checkpoint is of a run with this config.

    Checkpoints without a description, of other tools, pass.

    Raises:
        UserError: it is of another one; names the first difference.
    """
    if not isinstance(checkpoint.get(RUN_CONFIG), str):
        return
    there, here = json.loads(checkpoint[RUN_CONFIG]), json.loads(describe(cfg))
    different = [
        key
        for key in sorted(there.keys() | here.keys())
        if there.get(key, _ABSENT) != here.get(key, _ABSENT)
    ]
    if different:
        key = different[0]
        more = f" (and {len(different) - 1} more differences)" if len(different) > 1 else ""
        raise UserError(
            f"checkpoint {path} is of another config: {key} is {there.get(key, _ABSENT)} there "
            f"and {here.get(key, _ABSENT)} here{more}; name another folder with --work-dir, or "
            "continue with the config that the run was started with"
        )


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _flat(item, f"{prefix}.{index}")
    else:
        plain = value is None or isinstance(value, bool | int | float | str)
        yield prefix, value if plain else type(value).__name__
