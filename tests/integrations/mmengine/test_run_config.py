import copy
import json

import pytest
from mmengine.config import Config

from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.run_config import RUN_CONFIG, check_same_run, describe
from tests.messages import naming

RUN = {
    "model": {
        "type": "EncoderDecoder",
        "backbone": {"type": "SARResNet", "target_rate": 0.5, "init_cfg": {"checkpoint": "a"}},
        "data_preprocessor": {"size": [4, 5]},
    },
    "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}},
    "train_dataloader": {
        "num_workers": 2,
        "dataset": {"type": "SeededDataset", "dataset": {"type": "VOC", "data_root": "x"}},
    },
}


def changed(**options):
    cfg = Config(copy.deepcopy(RUN))
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    return cfg


@pytest.fixture
def checkpoint():
    return {RUN_CONFIG: describe(Config(RUN))}


@pytest.mark.parametrize(
    "options",
    [
        {"model__backbone__init_cfg__checkpoint": "b"},
        {"train_dataloader__dataset__dataset__data_root": "y"},
        {"train_dataloader__num_workers": 0},
        {"optim_wrapper__type": "AmpOptimWrapper", "optim_wrapper__loss_scale": "dynamic"},
        {"optim_wrapper__accumulative_counts": 2},
        {"train_cfg__max_iters": 5, "work_dir": "z"},
    ],
)
def test_what_may_differ(checkpoint, options):
    check_same_run(changed(**options), checkpoint, "a.pth")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"model__backbone__target_rate": 0.7},
            ("model.backbone.target_rate", "0.5 there", "0.7 here"),
        ),
        (
            {"model__data_preprocessor__size": [4, 6]},
            ("model.data_preprocessor.size.1", "5 there", "6 here"),
        ),
        ({"model__backbone__alpha": 2}, ("model.backbone.alpha", "absent there", "2 here")),
        (
            {"optim_wrapper__optimizer__lr": 0.2},
            ("optim_wrapper.optimizer.lr", "0.1 there", "0.2 here"),
        ),
        ({"total_batch_size": 8}, ("total_batch_size", "None there", "8 here")),
        (
            {"train_dataloader__dataset__dataset__type": "ADE"},
            ("dataset.type", "VOC there", "ADE here"),
        ),
        (
            {"model__type": "Other", "optim_wrapper__optimizer__lr": 0.2},
            ("model.type", "EncoderDecoder there", "1 more"),
        ),
    ],
)
def test_another_run(checkpoint, options, words):
    with pytest.raises(UserError, match=naming("a.pth", "config", *words)):
        check_same_run(changed(**options), checkpoint, "a.pth")


def test_a_checkpoint_of_another_tool_passes():
    check_same_run(Config(RUN), {}, "a.pth")


def test_a_description_is_plain():
    description = json.loads(describe(changed(model__loss=dict)))
    assert description["model.loss"] == "type"
    assert description["train_dataloader.dataset.type"] == "VOC"
