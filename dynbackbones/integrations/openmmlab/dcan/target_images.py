"""Unlabelled images of a target domain, beside the labelled ones that a run trains on."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import build_dataset, datasets_in, type_name
from dynbackbones.integrations.mmengine.random_states import random_state_kept
from dynbackbones.integrations.mmengine.seeded_data import SeededDataset, SeededSampler
from dynbackbones.integrations.openmmlab.checks import check_dataset

_LOADS_LABELS = re.compile(r"Load\w*Ann")
# Labels in a sample of any of OpenMMLab's libraries: gt_sem_seg, gt_label, gt_instances, ...
_LABEL = "gt_"
_STREAM = 0xDCA  # keeps the targets' order apart from that of the source images


class TargetImages:
    """Endless batches of target images that depend on the seed and the iteration alone.

    Args:
        dataset: config of a dataset; its pipeline must load no labels.
        batch_size: images in a batch.
        seed: of the run.
        num_workers: processes that load images.

    Raises:
        UserError: the pipeline loads or needs labels, the dataset cannot be built or is empty.
    """

    def __init__(
        self, dataset: Mapping[str, Any], *, batch_size: int, seed: int, num_workers: int = 0
    ) -> None:
        images = _build(dataset)
        seed = int(np.random.SeedSequence([seed, _STREAM]).generate_state(1)[0])
        self._batch_size = batch_size
        self._sampler = SeededSampler(images, seed=seed)
        self._loader = DataLoader(
            images,
            batch_size,
            sampler=self._sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=pseudo_collate,
        )
        self._batches: Iterator[dict] | None = None

    def seek(self, iteration: int) -> None:
        """Goes on as a run does that has had so many batches."""
        self._sampler.skip(iteration * self._batch_size)
        # An iterator draws a number when it is made; that a run is resumed must not show in others.
        with random_state_kept():
            self._batches = iter(self._loader)

    def next(self) -> dict[str, list]:
        """The next batch: ``inputs`` and ``data_samples`` as a data loader gives them.

        Raises:
            UserError: images cannot be stacked, have no three channels, or come with labels.
        """
        if self._batches is None:
            self.seek(0)
        batch = next(self._batches)
        _check_batch(batch)
        return batch


class TargetImagesHook(Hook):
    """Has target images at hand in every training iteration.

    Args:
        dataset: config of the images, see `TargetImages`.
        num_targets: images for each source image.
        num_workers: processes that load images.

    Attributes:
        batch: of the present iteration, see `TargetImages.next`; None outside of one.
    """

    def __init__(self, dataset: Mapping[str, Any], num_targets: int, num_workers: int) -> None:
        self._dataset = dataset
        self._num_targets = num_targets
        self._num_workers = num_workers
        self.batch: dict[str, list] | None = None

    def before_run(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        batch_size = loader.batch_size or loader.batch_sampler.batch_size
        # One seed for all processes, which then divide the images among them; with
        # `diff_rank_seed` each has its own.
        seeds = [runner.seed]
        broadcast_object_list(seeds)
        self._images = TargetImages(
            self._dataset,
            batch_size=batch_size * self._num_targets,
            seed=seeds[0],
            num_workers=self._num_workers,
        )

    def before_train(self, runner: Runner) -> None:
        self._images.seek(runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batch = self._images.next()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.batch = None


def normalised(model: nn.Module, batch: Mapping[str, list]) -> Tensor:
    """Images as a model sees them in evaluation, on its device.

    Args:
        model: with a ``data_preprocessor``.
        batch: see `TargetImages.next`.

    Returns:
        (M, 3, H, W).

    Raises:
        UserError: the preprocessor pads them; what is added would enter their statistics.
    """
    size = tuple(batch["inputs"][0].shape[-2:])
    # One by one: the original mmseg's preprocessor takes no more in evaluation.
    with torch.no_grad():
        parts = [
            model.data_preprocessor(
                {key: values[i : i + 1] for key, values in batch.items()}, False
            )["inputs"]
            for i in range(len(batch["inputs"]))
        ]
    images = torch.cat(parts)
    if tuple(images.shape[-2:]) != size:
        raise UserError(
            f"target images of {size[0]} x {size[1]} pixels are padded to {images.shape[-2]} x "
            f"{images.shape[-1]} by data_preprocessor.test_cfg, which spoils their statistics; "
            "resize or crop them in target_dataset's pipeline"
        )
    return images


def check_unlabelled(dataset: Mapping[str, Any]) -> None:
    """Makes sure that nothing in a dataset's config reads labels.

    Raises:
        UserError: a transform loads labels or cannot do without them.
    """
    for kind, options in _transforms(dataset):
        if _LOADS_LABELS.search(kind):
            raise UserError(
                f"target_dataset loads labels ({kind} in its pipeline); target images are used "
                "without labels: take it out"
            )
        if kind == "RandomCrop" and options.get("cat_max_ratio", 1) < 1:
            raise UserError(
                f"target_dataset's RandomCrop has cat_max_ratio={options['cat_max_ratio']}, which "
                "needs labels, and target images have none: take cat_max_ratio out"
            )


def _build(dataset: Mapping[str, Any]) -> SeededDataset:
    if not isinstance(dataset, Mapping) or "type" not in dataset:
        raise UserError(f"target_dataset must be the config of a dataset, got {dataset!r:.80}")
    dataset = copy.deepcopy(dataset)
    if dataset["type"] == "SeededDataset":
        dataset = dataset["dataset"]
    check_unlabelled(dataset)
    for part in datasets_in(dataset):
        check_dataset(part, f"target_dataset: {type_name(part)}")
    try:
        return SeededDataset(build_dataset(dataset, "target_dataset"))
    except UserError:
        raise
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"target_dataset cannot be built: {first}") from error


def _transforms(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and options of everything with a type in a config."""
    if isinstance(value, Mapping):
        if "type" in value:
            kind = value["type"]
            yield (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2], value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _transforms(item)


def _check_batch(batch: Mapping[str, Any]) -> None:
    images, samples = batch["inputs"], batch.get("data_samples") or []
    for sample in samples:
        labels = [key for key in sample.keys() if key.startswith(_LABEL)]  # noqa: SIM118
        if labels:
            raise UserError(
                f"target_dataset gives labels ({labels[0]}); target images are used without "
                "labels: take what loads them out of its pipeline"
            )
    for index, image in enumerate(images):
        where = f" ({samples[index].img_path})" if samples and "img_path" in samples[index] else ""
        if image.dim() != 3 or image.shape[0] != 3:
            channels = image.shape[0] if image.dim() == 3 else 1
            raise UserError(
                f"target images must have 3 channels, got {channels}{where}; load them with "
                "LoadImageFromFile(color_type='color')"
            )
    sizes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(sizes) > 1:
        shown = " and ".join(f"{height} x {width}" for height, width in sizes[:2])
        raise UserError(
            f"target images of one batch differ in size ({shown}); add Resize(keep_ratio=False) or "
            "RandomCrop to target_dataset's pipeline"
        )
