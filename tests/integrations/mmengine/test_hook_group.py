from types import SimpleNamespace

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dynbackbones.integrations.mmengine.hook_group import HookGroup


class Recorder(Hook):
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def before_run(self, runner):
        self.calls.append((self.name, "before_run"))

    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None, mode="train"):
        self.calls.append((self.name, mode, batch_idx, data_batch, outputs))

    def after_val_epoch(self, runner, metrics=None):
        metrics[self.name] = len(metrics)


class Metered(Recorder):
    def before_val_epoch(self, runner):
        self.calls.append((self.name, "before_val_epoch"))


@pytest.fixture
def group():
    calls = []
    made = HookGroup(Recorder("a", calls), Metered("b", calls))
    made.calls = calls
    return made


def call(group, stage, **arguments):
    """As a runner calls its hooks."""
    Runner.call_hook(SimpleNamespace(_hooks=[group]), stage, **arguments)
    called, group.calls[:] = list(group.calls), []
    return called


def test_every_part_is_called_in_order_with_what_the_runner_gives(group):
    assert call(group, "before_run") == [("a", "before_run"), ("b", "before_run")]
    batch = {"batch_idx": 3, "data_batch": "data", "outputs": "outputs"}
    for mode in ("train", "val", "test"):
        called = call(group, f"after_{mode}_iter", **batch)
        assert called == [(name, mode, 3, "data", "outputs") for name in "ab"]
    assert call(group, "before_val_epoch") == [("b", "before_val_epoch")]
    metrics = {}
    call(group, "after_val_epoch", metrics=metrics)
    assert metrics == {"a": 0, "b": 1}


@pytest.mark.parametrize("stage", Hook.stages)
def test_every_stage_of_a_runner_reaches_the_parts(stage):
    part, seen = Hook(), []
    setattr(part, stage, lambda runner, **arguments: seen.append(arguments))
    Runner.call_hook(SimpleNamespace(_hooks=[HookGroup(part)]), stage, given=1)
    assert seen == [{"given": 1}]


def test_mmengines_list_names_it_where_it_does_something(group):
    stages = {"before_run", "after_val_epoch", "before_val_epoch"}
    stages |= {f"after_{mode}_iter" for mode in ("train", "val", "test")}
    assert set(group.get_triggered_stages()) == stages
