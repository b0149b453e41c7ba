import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("mmengine")

from dynbackbones.cli import needle as command
from dynbackbones.demo.needle_videos import FRAMES, VISIBLE, is_visible
from dynbackbones.errors import UserError
from dynbackbones.experiments.video import learning, needle
from dynbackbones.experiments.video.features import Videos
from dynbackbones.experiments.video.learning import Schedule, evaluate, spliced
from dynbackbones.video.needle_encoders import FeaturePlan
from tests.messages import naming

TINY = Schedule(2, 8, 1e-3)
PLAN = needle.Plan(FeaturePlan(12, 12, 10, 2, 1, 2, 8), TINY, TINY, TINY, TINY, hidden=8)


@pytest.fixture
def tiny(monkeypatch):
    """Few videos, two iterations of each model; returns the titles of trainings."""
    titles, train = [], learning.train
    monkeypatch.setattr(needle, "Plan", lambda: PLAN)

    def note(net, videos, schedule, seed, title, choose=None):
        titles.append(title)
        return train(net, videos, schedule, seed, title, choose)

    monkeypatch.setattr(needle, "train", note)
    return titles


def test_all_steps_run_once_and_continue(tiny, tmp_path, capsys):
    command.main(["--output", str(tmp_path)])
    compared = len(tiny)
    assert compared == 6 + 4
    table = (tmp_path / "needle.md").read_text()
    for name in ("AdaFrame, K = 3", "FrameExit", "saliency", "calibrated to 0.05", "one seed"):
        assert name in table
    assert "without memory" not in table and table in capsys.readouterr().out
    (tmp_path / "seed0/uniform.json").unlink()
    command.main(["--output", str(tmp_path), "--variants", "--seeds", "0", "1"])
    assert tiny.count("seed 0: uniform") == 2 and tiny.count("seed 0: adaframe") == 1
    assert len(tiny) == compared + 1 + 5 + compared + 5
    table = (tmp_path / "needle.md").read_text()
    for name in ("without memory", "keys only", "reward p", "mu =", "two standard errors"):
        assert name in table
    seeds = json.loads((tmp_path / "needle.json").read_text())["seeds"]
    assert seeds["0"]["uniform"]["frames"] == 3 and set(seeds) == {"0", "1"}


def test_steps_of_other_settings_are_refused(tiny, tmp_path):
    needle.run(tmp_path, [0], PLAN)
    with pytest.raises(UserError, match=naming("--output", "adaframe.json")):
        needle.run(tmp_path, [0], replace(PLAN, gamma=0.2))


def videos(n=10):
    """Features that tell their video, their time and whether the digit shows."""
    first = torch.randint(FRAMES - VISIBLE + 1, (n,), generator=torch.Generator().manual_seed(0))
    times = torch.arange(FRAMES).float().expand(n, FRAMES)
    visible = torch.from_numpy(is_visible(first.numpy())).float()
    features = torch.stack([torch.arange(n)[:, None] + 0 * times, times, visible], dim=2)
    return Videos(features, features, torch.arange(n), first)


def test_spliced_videos_are_whole():
    made = spliced(videos(), torch.arange(10), torch.Generator().manual_seed(1))
    shows = torch.from_numpy(is_visible(made.first.numpy()))
    assert torch.equal(made.fine[..., 2].bool(), shows)
    assert torch.equal(made.fine, made.coarse) and torch.equal(made.labels, torch.arange(10))
    for row in range(10):
        digit, clutter = made.fine[row, shows[row]], made.fine[row, ~shows[row]]
        assert (digit[:, 0] == row).all() and len(clutter[:, 0].unique()) == 1
        for frames in (digit, clutter):
            assert (frames[1:, 1] > frames[:-1, 1]).all()


def test_evaluation_counts_what_was_looked_at():
    data = videos()
    net = learning.LiteEval(3, 3, 10, coarse_hidden=2, fine_hidden=4)
    visible = torch.from_numpy(is_visible(data.first.numpy())).float()
    figures = evaluate(net, data, 0, lambda *_: visible)
    assert figures["found"] == 1 and figures["frames"] == VISIBLE
    assert figures["open_when_visible"] == 1 and figures["share"] == pytest.approx(0.1)
    assert figures["distinct_policies"] == len(data.first.unique())
    assert evaluate(net, data, 0, lambda *_: 1 - visible)["found"] == 0
