import copy
import math

import pytest
import torch

from dynbackbones import video
from dynbackbones.errors import UserError
from dynbackbones.video.memory import positional_encoding
from tests.messages import naming

FRAMES, MEMORY, CLASSES = 6, 5, 4


def agent(**options):
    torch.manual_seed(0)
    net = video.AdaFrame(FRAMES, MEMORY, CLASSES, **{"hidden": 12, "steps": 4, **options})
    # Locations of an untrained agent are all in the middle.
    torch.nn.init.normal_(net.location.weight, std=3)
    return net


def inputs(lengths, memory_frames=16, seed=1):
    """Features of videos, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    longest, rows = max(lengths), len(lengths)
    frames = torch.randn(rows, longest, FRAMES, generator=generator)
    memory = torch.randn(rows, min(memory_frames, longest), MEMORY, generator=generator)
    return frames, memory, torch.tensor(lengths)


def close(first, second):
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"first": "start"}, {"position": "keys"}, {"use_memory": False}]
)
@torch.no_grad()
def test_one_video_frame_by_frame_is_the_forward_pass(options):
    net = agent(**options).eval()
    frames, memory, lengths = inputs([60, 40, 7, 3, 1])
    run = net(frames, memory, lengths)
    for row, length in enumerate(lengths.tolist()):
        asked: list[int] = []

        def read(index, row=row, asked=asked):
            asked.append(index)
            return frames[row, index]

        answer = net.classify(read, memory[row, : min(16, length)], length)
        taken = int(run.taken[row])
        assert answer.frames == run.indices[row, :taken].tolist()
        assert len(asked) == len(set(asked)) == answer.computed == int(run.distinct()[row])
        close(answer.scores, run.answers()[row].softmax(dim=0))


@torch.no_grad()
def test_padding_and_the_rest_of_the_batch_change_nothing():
    net = agent().eval()
    frames, memory, lengths = inputs([30, 9, 2])
    run = net(frames, memory, lengths)
    worse_frames, worse_memory = frames.clone(), memory.clone()
    for row, length in enumerate(lengths.tolist()):
        worse_frames[row, length:] = torch.nan
        worse_memory[row, length:] = torch.nan
        alone = net(frames[row : row + 1, :length], memory[row : row + 1, :length])
        steps = int(alone.taken)
        assert steps == run.taken[row]
        close(alone.logits[0, :steps], run.logits[row, :steps])
    close(net(worse_frames, worse_memory, lengths).answers(), run.answers())


def test_the_first_location_of_an_empty_state_is_the_middle():
    net = agent().eval()
    frames, memory, _ = inputs([60])
    run = net(frames, memory)
    assert run.indices[0, 0] == 30 and run.locations[0, 0] == 0.5
    close(run.attention[0, 0].sum(), torch.tensor(1.0))
    assert net.location(torch.zeros(1, 12)).sigmoid().item() == 0.5
    assert agent(first="start")(frames, memory).indices[0, 0] == 0


def test_an_empty_query_weighs_the_memory_evenly():
    frames, memory, _ = inputs([60])
    close(agent()(frames, memory).attention[0, 0], torch.full((16,), 1 / 16))


def test_locations_are_drawn_around_their_means_and_scored_unclamped():
    net = agent(steps=2, sigma=0.3).train()
    frames, memory, _ = inputs([50] * 4000)
    frames, memory = frames[:1].expand_as(frames), memory[:1].expand_as(memory)
    run = net(frames, memory)
    drawn = run.locations[:, 1]
    mean = net.eval()(frames[:1], memory[:1]).locations[0, 1]
    assert float(drawn.mean()) == pytest.approx(float(mean), abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.3, abs=0.02)
    assert drawn.min() < 0 or drawn.max() > 1
    expected = torch.distributions.Normal(mean, 0.3).log_prob(drawn)
    close(run.log_probs[:, 0], expected)
    assert run.indices[:, 1].min() >= 0 and run.indices[:, 1].max() <= 49


def test_a_video_of_one_frame_takes_one_step():
    net = agent()
    frames, memory, _ = inputs([1])
    run = net(frames, memory)
    assert run.taken.tolist() == [1]
    losses = net.losses(run, torch.tensor([2]))
    assert losses["loss_selection"] == 0
    sum(value for name, value in losses.items() if "loss" in name).backward()
    answer = net.eval().classify(lambda _: frames[0, 0], memory[0], 1)
    assert answer.frames == [0] and answer.reason == "seen"


@pytest.mark.parametrize("seed", range(5))
def test_short_videos_end_where_every_frame_was_seen(seed):
    net = agent(steps=30, sigma=1.0).train()
    torch.manual_seed(seed)
    run = net(*inputs([3, 20]))
    seen = run.indices[0].tolist()
    first = next((t + 1 for t in range(30) if len(set(seen[: t + 1])) == 3), 30)
    assert run.taken[0] == first and run.distinct()[0] == len(set(seen[:first]))


def test_returns_begin_with_the_reward_of_the_next_step():
    net = agent(steps=3, reward="probability")
    run = net(*inputs([40, 40]))
    labels = torch.tensor([1, 3])
    losses = net.losses(run, labels)
    p = run.scores[torch.arange(2), :, labels].detach()
    after = torch.stack([p[:, 1] + 0.9 * p[:, 2], p[:, 2], torch.zeros(2)], dim=1)
    close(losses["loss_utility"], (0.5 * (run.utilities - after) ** 2).mean())
    advantage = (after - run.utilities)[:, :2].detach()
    close(losses["loss_selection"], -(advantage * run.log_probs).sum(dim=1).mean())
    close(losses["loss_classification"],
          torch.nn.functional.cross_entropy(run.logits[:, 2], labels))  # fmt: skip


def test_all_losses_reach_the_lstm_and_rewards_carry_no_gradient():
    net = agent()
    run = net(*inputs([40, 30]))
    losses = net.losses(run, torch.tensor([1, 3]))
    for name in ("loss_classification", "loss_utility", "loss_selection"):
        net.zero_grad()
        losses[name].backward(retain_graph=True)
        assert net.cell.weight_hh.grad.abs().sum() > 0
        assert (net.classifier.weight.grad is None) == (name != "loss_classification")


def test_supervision_of_all_steps_leaves_out_those_that_did_not_take_place():
    net = agent(supervise="all", steps=2)
    run = net(*inputs([40, 1]))
    each = torch.nn.functional.cross_entropy
    labels = torch.tensor([1, 3])
    terms = [each(run.logits[0], labels[:1].expand(2), reduction="sum"),
             each(run.logits[1, :1], labels[1:])]  # fmt: skip
    close(net.losses(run, labels)["loss_classification"], sum(terms) / 3)


def test_given_frames_have_no_selection_loss():
    net = agent()
    frames, memory, lengths = inputs([40, 30])
    indices = video.uniform_indices(lengths, 3)
    run = net(frames, memory, lengths, indices=indices)
    assert torch.equal(run.indices, indices)
    assert "loss_selection" not in net.losses(run, torch.tensor([1, 3]))
    with pytest.raises(UserError, match=naming("indices", 40)):
        net(frames, memory, lengths, indices=indices + 40 - 6)


def test_position_is_in_the_values_only_on_request():
    frames, memory, _ = inputs([60])
    for position, moved in (("keys", False), ("keys_and_values", True)):
        attention = agent(position=position).attention
        stored = attention.prepare(memory, torch.tensor([16]))
        assert torch.equal(stored.values, memory) != moved
        close(stored.keys, memory + positional_encoding(torch.arange(16.0)[None], MEMORY))


def test_short_memories_are_spread_over_the_same_positions():
    attention = agent().attention
    stored = attention.prepare(torch.zeros(1, 2, MEMORY), torch.tensor([2]))
    close(stored.keys, positional_encoding(torch.tensor([[3.5, 11.5]]), MEMORY))


def test_positions_as_in_transformers():
    code = positional_encoding(torch.tensor([3.0]), 5)[0]
    angles = [3.0, 3.0, 3 / 10000 ** (2 / 5), 3 / 10000 ** (2 / 5), 3 / 10000 ** (4 / 5)]
    expected = [f(a) for f, a in zip((math.sin, math.cos) * 3, angles, strict=False)]
    close(code, torch.tensor(expected))


def test_a_copy_does_the_same():
    net = agent().eval()
    data = inputs([40, 3])
    close(copy.deepcopy(net)(*data).logits, net(*data).logits)


def test_a_location_is_learned():
    """The class shows at the end of half of the videos and at the start of the others."""
    torch.manual_seed(0)
    n, length = 256, 20
    labels, late = torch.randint(2, (n,)), torch.arange(n) % 2 == 0
    frames, memory = torch.zeros(n, length, FRAMES), torch.zeros(n, 1, MEMORY)
    frames[late, 14:, 0] = frames[~late, :6, 0] = 1.0
    frames[:, :, 0] *= 2.0 * labels[:, None] - 1
    memory[:, 0, 0] = 2.0 * late - 1
    net = video.AdaFrame(FRAMES, MEMORY, 2, hidden=16, steps=2, memory_frames=1, sigma=0.3)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(100):
        losses = net.losses(net(frames, memory), labels)
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimizer.step()
    found = net.eval()(frames, memory).indices[:, 1]
    assert (found[late] >= 14).all() and (found[~late] < 6).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0),
        ("steps", 0),
        ("sigma", 0.0),
        ("discount", 1.5),
        ("selection_weight", -1.0),
        ("first", "end"),
        ("position", "values"),
        ("supervise", "some"),
        ("reward", "gain"),
    ],
)
def test_options_out_of_range(name, value):
    with pytest.raises(UserError, match=naming(name, value)):
        agent(**{name: value})


def test_inputs_that_do_not_fit():
    net = agent().eval()
    frames, memory, lengths = inputs([10, 5])
    for data, words in (
        ((frames[..., 1:], memory), ("frames", FRAMES)),
        ((frames[0], memory), ("frames", (10, FRAMES))),
        ((frames[:, :0], memory), ("frames", "empty")),
        ((frames, memory[:1]), ("memory", 2)),
        ((frames, memory, torch.tensor([10, 0])), ("lengths", [10, 0])),
        ((frames, memory, torch.tensor([11, 5])), ("lengths", [11, 5])),
        ((frames, memory, torch.tensor([10])), ("lengths", 2)),
        ((frames, memory, torch.tensor([10.0, 5.0])), ("lengths", "float32")),
        ((frames, torch.zeros(2, 17, MEMORY)), ("memory", 17, "memory_frames=16")),
    ):
        with pytest.raises(UserError, match=naming(*words)):
            net(*data)
    with pytest.raises(UserError, match=naming("labels", "0..3")):
        net.losses(net(frames, memory, lengths), torch.tensor([0, 4]))


def test_values_that_are_not_finite():
    net = agent().eval()
    frames, memory, lengths = inputs([10, 5])
    for name, broken in (("frames", frames), ("memory", memory)):
        value = broken.clone()
        value[1, 2, 0] = torch.nan
        data = {"frames": frames, "memory": memory, name: value}
        with pytest.raises(UserError, match=naming(name, "NaN", [1])):
            net(**data, lengths=lengths)
    with pytest.raises(UserError, match=naming("frame 5", "NaN")):
        net.classify(lambda _: torch.full((FRAMES,), torch.inf), memory[0], 10)
    with pytest.raises(UserError, match=naming("num_frames", 0)):
        net.classify(lambda _: frames[0, 0], memory[0], 0)
    with pytest.raises(UserError, match=naming("frame 5", (FRAMES,), (2,))):
        net.classify(lambda _: torch.zeros(2), memory[0], 10)


def test_without_its_memory_no_parameter_is_left_without_gradient():
    # DDP stops where one has none.
    net = agent(use_memory=False)
    losses = net.losses(net(*inputs([40, 30])), torch.tensor([1, 3]))
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]
