from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")

from dynbackbones.cli import spatial_context as command
from dynbackbones.errors import UserError
from dynbackbones.experiments.context import digit_teacher, digits, drawing, report, shapes
from dynbackbones.experiments.context.frozen import Pairs, Schedule, train_context
from tests.messages import naming


def made(count=300):
    """Pairs whose target is the sign of x of the offset, whatever the context."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) - 0.5
    targets = torch.where(corner[:, :1] > 0, 1.0, -1.0) * torch.tensor([[1.0, 5.0, -2.0]])
    return Pairs(torch.rand(count, 4, generator=generator), corner.repeat(1, 4), targets)


def errors(pairs, **options):
    train, test = pairs.part(slice(200)), pairs.part(slice(200, None))
    trained, _ = train_context(train, test, Schedule(20), seed=0, title="test", **options)
    return trained.errors


def test_what_offsets_tell_is_learned_with_them_alone():
    assert errors(made())[-1] < 0.2
    assert errors(made(), use_offset=False)[-1] > 0.9
    assert errors(made().shuffled(0))[-1] > 0.9


def test_shuffling_moves_offsets_alone():
    pairs, other = made(), made().shuffled(1)
    assert torch.equal(pairs.context, other.context)
    assert torch.equal(pairs.targets, other.targets)
    assert not torch.equal(pairs.offsets, other.offsets)
    assert torch.equal(pairs.offsets.sort(dim=0).values, other.offsets.sort(dim=0).values)


@pytest.fixture
def short(monkeypatch):
    schedule = Schedule(epochs=2)
    for module in (shapes, drawing):
        monkeypatch.setattr(module, "SCHEDULE", schedule)
    monkeypatch.setattr(drawing, "EPOCHS", (1, 2))
    monkeypatch.setattr(report, "EPOCHS", (1, 2))
    pairs = list(shapes.shape_pairs(0))[:60]
    monkeypatch.setattr(shapes, "shape_pairs", lambda seed: pairs)
    for module in (shapes, drawing):
        monkeypatch.setattr(module, "TRAIN", 40)


def test_it_runs_once_and_continues(short, tmp_path, monkeypatch, capsys):
    command.main(["--output", str(tmp_path), "--parts", "shapes"])
    table = (tmp_path / "spatial_context.md").read_text()
    assert table in capsys.readouterr().out
    for title in shapes.ROWS.values():
        assert title in table
    assert (tmp_path / "spatial_context_pixels.png").stat().st_size > 1000
    whole = shapes.run(tmp_path, 0)
    (tmp_path / "seed0" / "shapes-without.json").unlink()
    again = shapes.run(tmp_path, 0)
    assert [run["errors"] for run in again.values()] == [run["errors"] for run in whole.values()]
    monkeypatch.setattr(shapes, "SCHEDULE", replace(shapes.SCHEDULE, lr=1.0))
    with pytest.raises(UserError, match=naming("--output", "shapes-with.json")):
        shapes.run(tmp_path, 0)


@pytest.fixture
def few_digits(monkeypatch):
    monkeypatch.setattr(digits, "SCHEDULE", Schedule(epochs=1))
    counts = {layout: {"train": 6, "val": 4} for layout in digits.LAYOUTS}
    monkeypatch.setattr(digits, "COUNTS", counts)
    for name, value in (("TILES", 40), ("ITERATIONS", 2), ("BATCH", 8)):
        monkeypatch.setattr(digit_teacher, name, value)


def test_digits_run_once_and_continue(few_digits, tmp_path, monkeypatch):
    arguments = ["--output", str(tmp_path), "--parts", "digits"]
    command.main(arguments)
    table = (tmp_path / "spatial_context.md").read_text()
    for text in (*digits.ROWS.values(), *digits.LAYOUTS):
        assert text in table
    teacher = tmp_path / "teacher" / "digits.pth"
    before = teacher.stat().st_mtime_ns
    monkeypatch.setattr(digits, "train_context", None)  # nothing trains again
    command.main(arguments)
    assert (tmp_path / "spatial_context.md").read_text() == table
    assert teacher.stat().st_mtime_ns == before


def test_pairs_of_digits_are_ordered_and_labelled_by_the_target(few_digits):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 3)
    made = digits.digit_pairs(digits.Teacher(network), "ordered", "val", 0)
    pairs, labels = made.pairs, made.labels
    # Six digits a scene: thirty pairs, each with its opposite.
    assert len(labels) == 4 * 30
    first = pairs.part(slice(30))
    assert torch.equal(first.offsets.sum(dim=0).round(decimals=4), torch.zeros(8))
    for index in range(6):
        same = (first.targets == first.targets[5 * index]).all(dim=1)
        assert len(set(labels[:30][same].tolist())) == 1


def test_squares_keep_centres_and_hide_shapes():
    squares = digits.squares_around(np.array([[10.0, 20.0, 14.0, 40.0]]))
    assert squares.tolist() == [[2.0, 20.0, 22.0, 40.0]]
