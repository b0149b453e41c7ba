import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")

from dynbackbones.cli import patchdrop as command
from dynbackbones.errors import UserError
from dynbackbones.experiments.patchdrop import bagnet, cifar, digits, loop
from dynbackbones.experiments.patchdrop.data import packed
from dynbackbones.experiments.patchdrop.evaluation import at_equal_patches, evaluate, touched_cells
from dynbackbones.experiments.patchdrop.loop import Schedule
from dynbackbones.experiments.patchdrop.stages import Experiment
from dynbackbones.experiments.steps import Cells
from tests.classifiers.made import built
from tests.messages import naming


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Few images, two iterations a stage."""
    for module in (digits, cifar, bagnet):
        schedules = {
            stage: replace(schedule, iterations=2, batch=8)
            for stage, schedule in module.PLAN.schedules.items()
        }
        monkeypatch.setattr(module, "PLAN", replace(module.PLAN, schedules=schedules))
    for module in (digits, cifar):
        for name, value in (("TRAIN", 48), ("VAL", 40), ("CALIBRATION", 20)):
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(bagnet, "AUGMENTED", Schedule(2, 8, 0.1, "sgd"))


def trained(monkeypatch):
    """Titles of all trainings from now on."""
    titles, train = [], loop.train

    def note(net, learning, split, schedule, seed, title, *rest, **options):
        titles.append(title)
        return train(net, learning, split, schedule, seed, title, *rest, **options)

    for module in ("stages", "bagnet"):
        monkeypatch.setattr(f"dynbackbones.experiments.patchdrop.{module}.train", note)
    return titles


def test_digits_and_bagnet_run_once_and_continue(tmp_path, monkeypatch, capsys):
    titles = trained(monkeypatch)
    command.main(["digits", "--output", str(tmp_path)])
    assert len(titles) == 5 + 3
    table = (tmp_path / "digits.md").read_text()
    for name in ("Pt", "Ft-1", "Ft-2", "fixed, horizontal", "best fixed mask", "of these chosen"):
        assert name in table
    assert table in capsys.readouterr().out
    titles.clear()
    (tmp_path / "seed0/joint.json").unlink()
    command.main(["digits", "--output", str(tmp_path)])
    assert titles == ["seed 0: joint"]
    assert (tmp_path / "digits.md").read_text().splitlines()[:-1] == table.splitlines()[:-1]
    titles.clear()
    command.main(["bagnet", "--output", str(tmp_path)])
    assert len(titles) == 4 + 3
    result = json.loads((tmp_path / "bagnet.json").read_text())["0"]
    assert set(result["hard_positives"]) == {"none", "policy", "random"}
    assert "hard positives of the policy" in (tmp_path / "bagnet.md").read_text()


def test_steps_of_other_settings_are_refused(tmp_path):
    digits.run(tmp_path, [0], digits.PLAN)
    with pytest.raises(UserError, match=naming("--output", "high.json")):
        digits.run(tmp_path, [0], replace(digits.PLAN, alpha=0.9))


def test_sigma_alone_is_trained_from_the_same_networks(tmp_path, monkeypatch):
    digits.run(tmp_path, [0], digits.PLAN)
    titles = trained(monkeypatch)
    command.main(["digits", "--output", str(tmp_path), "--sigmas", "0.1", "2"])
    assert titles == ["seed 0: policy"] * 2
    assert set(json.loads((tmp_path / "sigmas.json").read_text())) == {"0.1", "2.0"}
    assert "| 2 |" in (tmp_path / "sigmas.md").read_text()
    with pytest.raises(UserError, match=naming("--sigmas", "digits", "bagnet")):
        command.main(["bagnet", "--output", str(tmp_path), "--sigmas", "1"])
    with pytest.raises(UserError, match=naming("--sigmas", "--seeds 0 1")):
        command.main(["digits", "--output", str(tmp_path), "--seeds", "0", "1", "--sigmas", "1"])


def test_the_classifier_learns_from_some_images_with_patches_dropped(tmp_path):
    train, val = digits.digits_anywhere(tmp_path, 48, 40)
    plan = replace(digits.PLAN, blanked=0.5)
    net, seen = built(stage="high"), []
    experiment = Experiment(plan, train, train, val, Cells(tmp_path / "cells", {}), 0)
    for iteration in range(40):
        with experiment._some_dropped(net, "high", iteration):
            net(torch.zeros(8, 3, 32, 32))
        seen.append(net.decisions.policy.sum(dim=1))
    counts = torch.stack(seen)
    whole = (counts == 16).all(dim=1)
    assert 10 < int(whole.sum()) < 30
    assert counts[~whole].min() >= 6 and counts[~whole].max() <= 15


def test_cifar_wants_its_data_by_name(tmp_path):
    with pytest.raises(UserError, match=naming("--data", "cifar")):
        command.main(["cifar", "--output", str(tmp_path)])
    with pytest.raises(UserError, match=naming("--data", "digits")):
        command.main(["digits", "--output", str(tmp_path), "--data", str(tmp_path)])
    with pytest.raises(UserError, match=naming("train.npz", "folder")):
        command.main(["cifar", "--output", str(tmp_path), "--data", str(tmp_path)])
    np.savez(tmp_path / "train.npz", labels=[1])
    with pytest.raises(UserError, match=naming("train.npz", "offsets")):
        packed(tmp_path / "train.npz")


def test_augmentation_shifts_and_mirrors(tmp_path):
    train, _ = digits.digits_anywhere(tmp_path, 20, 10)
    moved = train._replace(augment=True).normalised(slice(0, 20), torch.Generator().manual_seed(0))
    still = train.normalised(slice(0, 20), None)
    assert moved.shape == still.shape and not torch.equal(moved, still)
    inner = moved.sort(dim=3).values.sum() - still.sort(dim=3).values.sum()
    assert abs(float(inner)) < 0.2 * still.numel()


def test_touched_cells_are_those_a_box_lies_in():
    boxes = torch.tensor([[0, 0, 8, 8], [7, 15, 2, 2]])
    cells = touched_cells(boxes, (32, 32), 4)
    assert cells[0].nonzero().flatten().tolist() == [0]
    assert cells[1].nonzero().flatten().tolist() == [1, 2, 5, 6]


def test_fixed_policies_are_mixed_to_meet_a_mean(tmp_path):
    net, (train, val) = built(stage="joint"), digits.digits_anywhere(tmp_path, 20, 30)
    mixed = at_equal_patches(net, val, train, 14.25)
    ends = [evaluate(net, val, "vertical", count / 16)["accuracy"] for count in (14, 15)]
    assert mixed["vertical"]["patches"] == pytest.approx(14.25)
    assert mixed["vertical"]["accuracy"] == pytest.approx(0.75 * ends[0] + 0.25 * ends[1])
    assert mixed["best"]["patches"] == pytest.approx(14.25)
