"""Whether data, other data and weights of a run mean the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.checkpoints.classes import trained_classes
from dynbackbones.data.classes import Classes, labels_of, same_names
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.checked_data import classes_of


class ClassAgreementHook(Hook):
    """Refuses to evaluate or continue on classes that are those of the model in another order.

    To OpenMMLab's libraries a class is its place in ``metainfo["classes"]``. Other names in the
    same places may be other words for the same: of these a warning says so.
    """

    def __init__(self) -> None:
        self._known: Classes | None = None
        self._trains = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        names = trained_classes(checkpoint)
        self._known = Classes(names, "the checkpoint") if names else None

    def before_train(self, runner: Runner) -> None:
        names = classes_of(runner.train_dataloader.dataset)
        if runner.iter > 0:
            self._compare(runner, names, "the training set")
        self._trains, self._known = True, Classes(names, "the training set") if names else None
        if runner.val_loop is not None:
            self._compare(runner, classes_of(runner.val_dataloader.dataset), "the validation set")

    def before_val(self, runner: Runner) -> None:
        if not self._trains:
            self._compare(runner, classes_of(runner.val_dataloader.dataset), "the validation set")

    def before_test(self, runner: Runner) -> None:
        self._compare(runner, classes_of(runner.test_dataloader.dataset), "the test set")

    def _compare(self, runner: Runner, names: Sequence[str], where: str) -> None:
        warning = compare_classes(names, self._known, where)
        if warning:
            runner.logger.warning(warning)


def compare_classes(names: Sequence[str], known: Classes | None, where: str) -> str:
    """Makes sure that the classes of data stand where a model has them.

    Args:
        names: of the data; empty where it does not say.
        known: the model's; None where nobody says.
        where: calls the data.

    Returns:
        What to warn of: other names in the same places; "" if nothing.

    Raises:
        UserError: the names are the same in another order.
    """
    if known is None or not names or names == known.names:
        return ""
    both = f"{', '.join(names[:5])}, ..., and {', '.join(known.names[:5])}, ...; "
    if not same_names(names, known.names):
        return (
            f"the classes of {where} are not those of {known.whose}: {both}they are taken for the "
            "same where they stand in the same place"
        )
    if labels_of(names, known, where) != list(range(len(names))):
        raise UserError(
            f"the classes of {where} are those of {known.whose} in another order: {both}set "
            "metainfo=dict(classes=...) in the dataset to the model's order"
        )
    return ""
