"""Classes of data and weights in runs of OpenMMLab's libraries."""

import logging
from types import SimpleNamespace

import pytest

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.class_agreement import ClassAgreementHook
from tests.messages import names, naming

NAMES = ("cat", "dog", "cow")
TURNED = ("dog", "cat", "cow")


def runner(train=NAMES, val=NAMES, test=NAMES, iteration=0):
    def loader(classes):
        return SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": classes}))

    return SimpleNamespace(
        train_dataloader=loader(train), val_dataloader=loader(val), test_dataloader=loader(test),
        val_loop=object(), iter=iteration, logger=logging.getLogger("tests"),
    )  # fmt: skip


def loaded(classes):
    hook = ClassAgreementHook()
    meta = {"dataset_meta": {"classes": classes}} if classes else {}
    hook.after_load_checkpoint(runner(), {"meta": meta})
    return hook


def test_what_agrees_passes(caplog):
    hook = loaded(NAMES)
    for stage in ("before_train", "before_val", "before_test"):
        getattr(hook, stage)(runner(val=("Cat", "dog ", "cow"), iteration=5))
    assert caplog.text == ""


def test_validation_in_another_order_than_training_is_refused():
    with pytest.raises(UserError, match=naming("validation set", "training set", "metainfo")):
        ClassAgreementHook().before_train(runner(val=TURNED))


@pytest.mark.parametrize("stage", ["before_val", "before_test"])
def test_a_checkpoint_in_another_order_is_refused(stage):
    with pytest.raises(UserError, match=naming("checkpoint", "dog, cat, cow", "cat, dog, cow")):
        getattr(loaded(TURNED), stage)(runner())
    getattr(loaded(None), stage)(runner())


def test_a_run_continues_on_its_own_classes_and_others_may_start_it():
    with pytest.raises(UserError, match=naming("checkpoint", "training set")):
        loaded(TURNED).before_train(runner(iteration=5))
    hook = loaded(TURNED)
    hook.before_train(runner())
    # It has been trained on these since.
    hook.before_val(runner())
    hook.before_test(runner())
    with pytest.raises(UserError, match=naming("test set", "training set")):
        hook.before_test(runner(test=TURNED))


def test_other_names_may_be_other_words(caplog):
    loaded(("chat", "chien", "vache")).before_test(runner())
    assert names(caplog.text, "test set", "checkpoint", "cat, dog, cow", "chat, chien, vache")


def test_data_without_classes_are_left_alone():
    hook = loaded(NAMES)
    hook.before_test(runner(test=()))
    hook.before_train(runner(train=(), val=()))
