"""Has mmengine read checkpoints through this package's reader, which runs no code from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.utils import apply_to

from dynbackbones import checkpoints
from dynbackbones.errors import UserError

# What mmengine's CheckpointHook notes of the run so far.
_KEPT_INFO = ("best_score", "best_ckpt", "keep_ckpt_ids")


def load_from_file(
    filename: str, map_location: str | torch.device | Callable | None = None
) -> dict[str, Any]:
    """Loads a file or a URL for mmengine, in the one layout that it knows.

    Args:
        filename: of any file that `dynbackbones.checkpoints.load` reads; a URL is downloaded once.
        map_location: where the tensors go; a callable leaves them on the CPU.

    Raises:
        UserError: the file is not there, is damaged or would run code.
    """
    if get_rank() == 0:
        path = checkpoints.local_file(filename)
    barrier()
    path = checkpoints.local_file(filename)
    content = checkpoints.load(path)
    try:
        weights = checkpoints.state_dict_of(content, f"checkpoint {filename}")
    except UserError:  # another file of mmengine's, which has no weights
        return content
    for remark in weights.remarks():
        print_log(f"{filename}: loaded weights; {remark}", logger="current")
    if weights.key != "state_dict" or weights.keys() != content["state_dict"].keys():
        content = {**(content if weights.key else {}), "state_dict": weights}
    if weights.foreign and isinstance(content.get("message_hub"), Mapping):
        forget_logs(content)
    if isinstance(map_location, str | torch.device) and str(map_location) != "cpu":
        is_tensor = torch.is_tensor
        content = apply_to(content, is_tensor, lambda tensor: tensor.to(map_location))
    return content


def read_safely() -> None:
    """Registers the loader above for files and URLs, for all of mmengine in this process.

    mmengine's own falls back to one that runs code from the file.
    """
    schemes = ("", "http://", "https://")
    CheckpointLoader.register_scheme(schemes, load_from_file, force=True)


class PlainCheckpointHook(Hook):
    """Keeps out of checkpoints what only an unsafe loader would accept; see `forget_logs`."""

    # Before checkpoints are written (VERY_LOW).
    priority = "NORMAL"

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        forget_logs(checkpoint)


def forget_logs(checkpoint: dict) -> None:
    """Takes mmengine's log history, which serves to smooth logged values, out of a checkpoint.

    What mmengine knows of the best and the last checkpoints stays, or a resumed run would forget
    them.
    """
    info = (checkpoint.get("message_hub") or {}).get("runtime_info", {})
    kept = {key: _plain(value) for key, value in info.items() if key.startswith(_KEPT_INFO)}
    checkpoint["message_hub"] = {
        "log_scalars": {},
        "runtime_info": kept,
        "resumed_keys": dict.fromkeys(kept, True),
    }


def _plain(value: Any) -> Any:
    """A value as a safe loader accepts it: metrics may be NumPy's numbers."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
