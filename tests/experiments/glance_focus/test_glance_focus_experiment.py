import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("mmengine")

from dynbackbones.cli import glance_focus as command
from dynbackbones.errors import UserError
from dynbackbones.experiments.glance_focus import stages
from dynbackbones.experiments.glance_focus.evaluation import budgets, covered, sequences
from dynbackbones.experiments.patchdrop.data import Split
from tests.classifiers.made import focused
from tests.messages import naming

STAGES = ["local", "glance", "warm_up", "policy", "fine_tune", "interpolate"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Few images, two iterations a stage."""
    schedules = {
        stage: replace(schedule, iterations=2, batch=8)
        for stage, schedule in stages.PLAN.schedules.items()
    }
    monkeypatch.setattr(stages, "PLAN", replace(stages.PLAN, schedules=schedules))
    for name, value in (("TRAIN", 48), ("CALIBRATION", 20), ("VAL", 40)):
        monkeypatch.setattr(stages, name, value)


def trained(monkeypatch):
    """Titles of all trainings from now on."""
    titles, train = [], stages.train

    def note(net, learning, split, schedule, seed, title):
        titles.append(title)
        return train(net, learning, split, schedule, seed, title)

    monkeypatch.setattr(stages, "train", note)
    return titles


def without_times(results):
    return {
        stage: {key: value for key, value in entry.items() if key != "cpu_seconds"}
        for stage, entry in results.items()
    }


def test_it_runs_once_and_an_interrupted_run_ends_the_same(tmp_path, monkeypatch, capsys):
    titles = trained(monkeypatch)
    command.main(["--output", str(tmp_path)])
    assert titles == [f"seed 0: {stage}" for stage in STAGES]
    table = (tmp_path / "glance_focus.md").read_text()
    assert table in capsys.readouterr().out
    for text in ("centre", "random", "learned", "t = 4", "budget"):
        assert text in table
    assert (tmp_path / "glance_focus.png").stat().st_size > 1000
    titles.clear()
    whole = stages.run(tmp_path, [0], stages.PLAN)[0]
    assert titles == []
    # As if it had been stopped in the policy's stage.
    for stage in STAGES[3:]:
        for file in (tmp_path / "seed0").glob(f"{stage}*"):
            file.unlink()
    again = stages.run(tmp_path, [0], stages.PLAN)[0]
    assert titles == [f"seed 0: {stage}" for stage in STAGES[3:]]
    assert without_times(again) == without_times(json.loads(json.dumps(whole)))


def test_steps_of_other_settings_are_refused(tmp_path):
    stages.run(tmp_path, [0], stages.PLAN)
    with pytest.raises(UserError, match=naming("--output", "local.json")):
        stages.run(tmp_path, [0], replace(stages.PLAN, learning={"deviation": 0.2}))


def scenes(count):
    torch.manual_seed(0)
    pixels = torch.randint(0, 255, (count, 3, 64, 64), dtype=torch.uint8)
    return Split(pixels, torch.arange(count) % 10, torch.tensor([[20, 20, 24, 24]] * count))


def test_what_crops_show_of_a_box():
    boxes = torch.tensor([[10, 10, 4, 4]] * 3)
    corners = torch.tensor([[0, 0], [12, 10], [40, 40]])
    assert covered(corners[:1], boxes[:1], 24) == 1
    assert covered(corners, boxes, 24) == pytest.approx((1 + 0.5 + 0) / 3)


def test_sequences_are_what_the_network_predicts():
    net, split = focused(), scenes(12)
    found = sequences(net, split)
    x = split.normalised(slice(None), None)
    with torch.no_grad(), net.select("all"):
        right = net(x).argmax(dim=1) == split.labels
    assert torch.equal(found.right[:, -1], right)
    assert torch.equal(found.corners, net.decisions.corners)
    assert torch.allclose(found.confidences, net.decisions.confidences, atol=1e-5)
    assert sequences(net, split, "center").corners.unique().tolist() == [20]


def test_budgets_are_those_of_the_network_with_exits():
    net, split = focused(), scenes(40)
    entry = budgets(net, split, split, shares=[0.5])[0]
    assert entry["reached_mmacs"] == pytest.approx(entry["asked_mmacs"], rel=0.05)
    net.calibrate(split.normalised(slice(None), None), target_macs=1e6 * entry["asked_mmacs"])
    with torch.no_grad():
        right = net(split.normalised(slice(None), None)).argmax(dim=1) == split.labels
    assert float(net.decisions.macs.mean()) / 1e6 == pytest.approx(entry["reached_mmacs"])
    assert 100 * float(right.float().mean()) == pytest.approx(entry["accuracy"])
    assert entry["searched_accuracy"] >= entry["accuracy"]
    assert entry["searched_reached_mmacs"] <= entry["asked_mmacs"] * (1 + 1e-6)
