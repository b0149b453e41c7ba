import pytest
import torch

from dynbackbones import video
from dynbackbones.errors import UserError
from tests.messages import naming


def steps(utilities, **options):
    values = torch.tensor([utilities])
    taken = torch.tensor([len(utilities)])
    return int(video.lookahead_steps(values, taken, **options))


def test_steps_below_the_maximum_are_counted_until_a_new_one():
    utilities = [0.5, 0.1, 0.1, 0.6, 0.2, 0.2, 0.2, 0.0]
    assert steps(utilities, margin=0.3, patience=1) == 3
    assert steps(utilities, margin=0.3, patience=2) == 7
    assert steps(utilities, margin=0.3, patience=9) == 8
    assert steps(utilities, margin=0.45, patience=0) == 8
    assert steps(utilities, margin=0.3, patience=0, min_steps=4) == 5


def test_steps_that_are_not_below_keep_the_count():
    assert steps([0.9, 0.1, 0.8, 0.1, 0.8], margin=0.5, patience=1) == 4


@pytest.mark.parametrize("seed", range(10))
def test_a_larger_margin_never_stops_earlier(seed):
    utilities = torch.rand(20, 8, generator=torch.Generator().manual_seed(seed))
    taken = torch.full((20,), 8)
    last = torch.ones(20, dtype=torch.long)
    for margin in (0.0, 0.1, 0.2, 0.4, 0.8, float("inf")):
        now = video.lookahead_steps(utilities, taken, margin, patience=1)
        assert (now >= last).all()
        last = now
    assert (last == 8).all()


def test_an_agent_stops_by_the_same_rule():
    torch.manual_seed(0)
    net = video.AdaFrame(3, 2, 2, hidden=8, steps=8).eval()
    torch.nn.init.normal_(net.utility.weight, std=5)
    frames, memory = torch.randn(30, 20, 3), torch.randn(30, 16, 2)
    with torch.no_grad():
        run = net(frames, memory)
    expected = video.lookahead_steps(run.utilities, run.taken, 0.2, patience=1)
    assert len(expected.unique()) > 1
    for row, count in enumerate(expected.tolist()):
        answer = net.classify(
            lambda index, row=row: frames[row, index], memory[row], 20, margin=0.2, patience=1
        )
        assert len(answer.frames) == count
        assert answer.reason == ("utility" if count < 8 else answer.reason)
        scores = run.answers(expected)[row].softmax(dim=0)
        torch.testing.assert_close(answer.scores, scores, atol=1e-5, rtol=1e-5)


def test_confidence_stops_at_the_first_sure_step():
    scores = torch.tensor([[[0.6, 0.4], [0.1, 0.9], [0.0, 1.0]], [[0.5, 0.5]] * 3])
    assert video.confident_steps(scores, torch.tensor([3, 2]), 0.8).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("name", "value"),
    [("margin", -0.1), ("margin", float("nan")), ("patience", -1), ("min_steps", 0)],
)
def test_options_out_of_range(name, value):
    with pytest.raises(UserError, match=naming(name, value)):
        video.Lookahead(**{"margin": 0.1, name: value})
