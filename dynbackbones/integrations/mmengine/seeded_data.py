"""Data that can be resumed and does not surprise: seeded samples, checked labels."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import build_dataset, guard
from dynbackbones.integrations.mmengine.label_maps import check_label_map
from dynbackbones.integrations.mmengine.random_states import random_state_kept


@DATA_SAMPLERS.register_module()
class SeededSampler(InfiniteSampler):
    """mmengine's `InfiniteSampler` that gives each sample a seed of its own.

    The seed depends on the run's seed and on the sample's position in training alone, whatever the
    number of workers, so that a resumed run augments like the uninterrupted one. It yields pairs
    of index and seed, which `SeededDataset` understands.
    """

    def _indices_of_rank(self) -> Iterator[tuple[int, int]]:
        positions = enumerate(self._infinite_indices())
        for position, index in itertools.islice(positions, self.rank, None, self.world_size):
            yield index, _sample_seed(self.seed, position)


@DATA_SAMPLERS.register_module()
class SeededEpochSampler(DefaultSampler):
    """As `SeededSampler`, for training by epochs: mmengine's `DefaultSampler` with seeds."""

    _start = 0

    def skip(self, num_samples: int) -> None:
        """Leaves out as many samples of the next epoch, which the run to continue has had."""
        self._start = num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.epoch * self.total_size + self.rank
        numbered = enumerate(super().__iter__())
        for number, index in itertools.islice(numbered, self._start, None):
            yield index, _sample_seed(self.seed, first + number * self.world_size)


def _sample_seed(seed: int, position: int) -> int:
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


@DATASETS.register_module()
class SeededDataset:
    """Runs a dataset's transforms on the seeds of a `SeededSampler` or `SeededEpochSampler`.

    The process's own random numbers continue afterwards as if nothing had been drawn.

    Args:
        dataset: config of the dataset, or the dataset.
    """

    def __init__(self, dataset: Mapping[str, Any] | Any) -> None:
        is_config = isinstance(dataset, Mapping)
        self.dataset = build_dataset(dataset) if is_config else dataset
        guard(self.dataset)

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The sample of a pair (index, seed).

        Raises:
            TypeError: the sampler gives indices alone.
        """
        if not isinstance(key, tuple):
            raise TypeError(
                "SeededDataset needs pairs of index and seed; set sampler=dict(type="
                "'SeededSampler') in its dataloader, or 'SeededEpochSampler' to train by epochs"
            )
        index, seed = key
        with random_state_kept():
            random.seed(seed)
            # mmcv's transforms draw from the legacy generator.
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            return self.dataset[index]


@TRANSFORMS.register_module()
class CheckLabels:
    """Refuses label maps in colours, of another size than their image, or with other values.

    Stands right behind ``LoadAnnotations``. On a GPU such a value otherwise ends in an assertion of
    CUDA that names nothing; another size ends in crops that cannot be stacked, or in wrong labels.

    Args:
        num_classes: labels are 0 to ``num_classes - 1``.
        ignore_index: label without loss.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, results: dict) -> dict:
        check_label_map(results)
        labels = np.unique(results["gt_seg_map"])
        wrong = labels[(labels >= self.num_classes) & (labels != self.ignore_index)]
        if wrong.size:
            raise UserError(
                f"label map {results['seg_map_path']} has the values "
                f"{', '.join(map(str, wrong[:5]))}{', ...' if wrong.size > 5 else ''} beside the "
                f"{self.num_classes} classes 0 to {self.num_classes - 1} and {self.ignore_index} "
                "(ignored); map them, or correct num_classes (of the head and of CheckLabels)"
            )
        return results

    def __repr__(self) -> str:
        return f"CheckLabels(num_classes={self.num_classes}, ignore_index={self.ignore_index})"
