"""Which images each training iteration sees: a pure function of the seed and the iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

# Keeps the shuffling apart from other random numbers drawn from the same seed.
_SHUFFLE = 1


class TrainingBatches(Sampler[list[tuple[int, int]]]):
    """Batches of one process for iterations ``start`` to ``iterations``.

    All processes walk through the same endless stream of images, a new permutation after each
    pass, and take their share of each global batch. So the data does not depend on the number of
    processes, and a resumed run sees what the uninterrupted run would have seen.

    Args:
        length: number of images.
        batch_size: images per iteration over all processes.
        iterations: of the whole training.
        seed: the same in every process.
        groups: group of each image; a global batch then comes from one group (wide and tall images
            in one batch would mean much padding).
        rank, world_size: of this process.

    Yields:
        Lists of (draw, index): the image, and its position in the stream, from which the dataset
        derives the random numbers for its augmentation.

    Attributes:
        start: the first iteration to yield; set it before iterating.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        iterations: int,
        seed: int,
        groups: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.iterations = iterations
        self.seed = seed
        self.groups = None if groups is None else np.asarray(groups)
        self.rank = rank
        self.world_size = world_size
        self.start = 0

    def __len__(self) -> int:
        """Iterations of the whole training: mmengine counts from its start, also on resuming."""
        return self.iterations

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches = self._global_batches()
        for iteration in range(self.iterations):
            # Earlier iterations are walked through too: what is left over in the groups matters.
            batch = next(batches)
            if iteration >= self.start:
                yield batch[self.rank :: self.world_size]

    def _global_batches(self) -> Iterator[list[tuple[int, int]]]:
        waiting: dict[int, list[tuple[int, int]]] = {}
        for draw, index in enumerate(self._stream()):
            group = 0 if self.groups is None else int(self.groups[index])
            batch = waiting.setdefault(group, [])
            batch.append((draw, index))
            if len(batch) == self.batch_size:
                yield waiting.pop(group)

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            shuffle = np.random.default_rng((self.seed, _SHUFFLE, epoch))
            yield from shuffle.permutation(self.length).tolist()
            epoch += 1
