"""mmengine's Runner, with what it reads looked at, and what it writes written whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from dynbackbones.integrations.mmengine.checked_data import guard, named_if_empty
from dynbackbones.integrations.mmengine.whole_checkpoints import WholeCheckpointHook


class CheckedRunner(Runner):
    """mmengine's Runner, which names empty datasets and broken files, and runs nothing of a file.

    All loops of a run build their data loaders here. `WholeCheckpointHook` stands where a config
    says ``CheckpointHook``.
    """

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        config = dataloader.get("dataset") if isinstance(dataloader, Mapping) else None
        with named_if_empty(config, "dataset"):
            loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        guard(loader.dataset)
        return loader

    def register_hook(self, hook: Hook | dict, priority: Any = None) -> None:
        if isinstance(hook, dict) and hook.get("type") in ("CheckpointHook", CheckpointHook):
            hook = {**hook, "type": WholeCheckpointHook}
        super().register_hook(hook, priority)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        checkpoint = super().load_checkpoint(*args, **kwargs)
        # A config in Python, which mmengine would run to look at the number of GPUs.
        if isinstance(checkpoint.get("meta"), dict):
            checkpoint["meta"].pop("config", None)
        return checkpoint
