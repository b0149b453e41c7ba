import contextlib
import copy

import pytest
import torch

import dynbackbones
from dynbackbones import video
from dynbackbones.errors import UserError
from tests.messages import naming

COARSE, FINE, CLASSES = 4, 6, 3


def model(**options):
    torch.manual_seed(0)
    sizes = {"coarse_hidden": 5, "fine_hidden": 12}
    return video.LiteEval(COARSE, FINE, CLASSES, **{**sizes, **options})


def inputs(lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), max(lengths)
    coarse = torch.randn(*shape, COARSE, generator=generator)
    return coarse, torch.randn(*shape, FINE, generator=generator), torch.tensor(lengths)


def close(first, second):
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("synchronise", [True, False])
@torch.no_grad()
def test_steps_are_the_forward_pass_and_ask_only_for_open_gates(seed, synchronise):
    net = model(synchronise=synchronise).eval()
    coarse, fine, _ = inputs([9] * 4, seed)
    run = net(coarse, fine)
    assert 0 < run.rates.mean() < 1
    state = net.start(4)
    for t in range(9):
        asked = []

        def fine_of(rows, t=t, asked=asked):
            asked.extend(rows.tolist())
            return fine[rows, t]

        scores, state = net.step(coarse[:, t], fine_of, state)
        assert asked == run.gates[:, t].nonzero().flatten().tolist()
        close(scores, run.scores[:, t])
    close(state.fine_frames / state.frames, run.rates)


@torch.no_grad()
def test_padding_and_the_rest_of_the_batch_change_nothing():
    net = model().eval()
    coarse, fine, lengths = inputs([9, 4, 1])
    run = net(coarse, fine, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = net(coarse[row : row + 1, :length], fine[row : row + 1, :length])
        close(alone.answers(), run.answers()[row : row + 1])
        close(alone.rates, run.rates[row : row + 1])
        coarse[row, length:] = fine[row, length:] = torch.nan
    close(net(coarse, fine, lengths).answers(), run.answers())
    assert (run.gates[1, 4:] == 0).all()


@torch.no_grad()
def test_a_closed_gate_copies_exactly_the_coarse_entries():
    net = model().eval()
    net.gate_threshold.fill_(1e9)
    coarse, _, _ = inputs([1, 1])
    fine = tuple(torch.randn(2, 12) for _ in range(2))
    before = net.start(2)._replace(fine=fine)

    def never(rows):
        raise AssertionError("fine features were asked for")

    _, after = net.step(coarse[:, 0], never, before)
    for copied, quick, slow in zip(after.fine, after.coarse, fine, strict=True):
        assert torch.equal(copied[:, :5], quick) and torch.equal(copied[:, 5:], slow[:, 5:])
    net.synchronise = False
    _, after = net.step(coarse[:, 0], never, before)
    assert all(map(torch.equal, after.fine, fine))


@torch.no_grad()
def test_fine_features_of_skipped_frames_do_not_matter():
    net = model().eval()
    coarse, fine, _ = inputs([9] * 4)
    run = net(coarse, fine)
    other = torch.where(run.gates[..., None] > 0, fine, torch.randn_like(fine))
    close(net(coarse, other).logits, run.logits)


@torch.no_grad()
def test_two_streams_through_one_model_and_a_failure_leave_states_alone():
    net = model().eval()
    coarse, fine, _ = inputs([6, 6])
    expected = [net(coarse[r : r + 1], fine[r : r + 1]).scores[0, -1] for r in range(2)]
    states, scores = [net.start(), net.start()], [None, None]
    for t in range(6):
        for r in range(2):

            def broken(rows):
                raise OSError("no such frame")

            with contextlib.suppress(OSError):
                net.step(coarse[r, t][None], broken, states[r])
            scores[r], states[r] = net.step(
                coarse[r, t][None], lambda rows, r=r, t=t: fine[r, t][None], states[r]
            )
    for r in range(2):
        close(scores[r][0], expected[r])


def test_a_copy_does_the_same():
    net = model().eval()
    data = inputs([7, 3])
    close(copy.deepcopy(net)(*data).logits, net(*data).logits)


def test_losses():
    net = model(target_rate=0.25, rate_weight=3.0)
    run = net(*inputs([8, 4]))
    labels = torch.tensor([0, 2])
    losses = net.losses(run, labels)
    rates = torch.stack([run.gates[0].mean(), run.gates[1, :4].mean()])
    close(losses["loss_rate"], 3 * ((rates - 0.25) ** 2).mean())
    last = torch.stack([run.logits[0, 7], run.logits[1, 3]])
    close(losses["loss_classification"], torch.nn.functional.cross_entropy(last, labels))
    net.rate_loss = "batch"
    close(net.losses(run, labels)["loss_rate"], 3 * (rates.mean() - 0.25) ** 2)
    for name in ("loss_rate", "loss_classification"):
        net.zero_grad()
        losses[name].backward(retain_graph=True)
        assert net.gate.weight.grad.abs().sum() > 0


def test_given_gates_have_no_rate_loss():
    net = model()
    coarse, fine, lengths = inputs([8, 4])
    gates = torch.zeros(2, 8)
    gates[:, ::3] = 1
    run = net(coarse, fine, lengths, gates=gates)
    close(run.rates, torch.tensor([3 / 8, 2 / 4]))
    assert "loss_rate" not in net.losses(run, torch.tensor([1, 2]))


def test_the_temperature_follows_progress():
    net = model(temperature=(4.0, 1.0))
    seen = []
    for fraction in (0.0, 0.5, 1.0):
        net.set_progress(fraction)
        seen.append(net.scheduled_temperature)
    assert seen == pytest.approx([4, 2, 1])
    with pytest.raises(UserError, match=naming("fraction", 1.5)):
        net.set_progress(1.5)


@pytest.mark.parametrize("target", [0.05, 0.2, 0.6])
def test_calibration_meets_a_rate(target):
    net = model().train()
    batches = [inputs([40] * 20, seed)[:2] for seed in range(3)]
    reached = dynbackbones.calibrate(net, batches, target_rate=target)
    assert reached == pytest.approx(target, abs=0.01)
    assert net.training
    rates = torch.cat([net.eval()(*batch).rates for batch in batches])
    assert float(rates.mean()) == pytest.approx(reached)
    assert "gate_threshold" in net.state_dict()


def test_calibration_warns_where_it_misses():
    net = model()
    torch.nn.init.zeros_(net.gate.weight)  # all or nothing
    with pytest.warns(UserWarning, match=naming("0.3", "rate")) as caught:
        dynbackbones.calibrate(net, [inputs([10, 5])], target_rate=0.3)
    assert caught[0].filename == __file__


def test_calibration_wants_a_rate_and_videos():
    net = model()
    for options, words in (
        ({"target_macs": 1e9}, ("target_rate", "target_macs")),
        ({"target_rate": 1.2}, ("target_rate", 1.2)),
    ):
        with pytest.raises(UserError, match=naming(*words)):
            dynbackbones.calibrate(net, [inputs([4])], **options)
    with pytest.raises(UserError, match=naming("videos")):
        dynbackbones.calibrate(net, [], target_rate=0.1)
    damaged = inputs([4])
    damaged[0][0, 1] = torch.nan
    before = net.gate_threshold.clone()
    with pytest.raises(UserError, match=naming("coarse", "NaN")):
        dynbackbones.calibrate(net, [damaged], target_rate=0.1)
    assert torch.equal(net.gate_threshold, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coarse_hidden", 13),
        ("fine_hidden", 0),
        ("target_rate", 1.5),
        ("rate_weight", -1.0),
        ("rate_loss", "video"),
        ("temperature", (1.0, 0.0)),
    ],
)
def test_options_out_of_range(name, value):
    with pytest.raises(UserError, match=naming(name, value)):
        model(**{name: value})


def test_inputs_that_do_not_fit():
    net = model().eval()
    coarse, fine, lengths = inputs([8, 4])
    for data, words in (
        ((coarse[..., 1:], fine), ("coarse", COARSE)),
        ((coarse, fine[:, 1:]), ("fine", 8)),
        ((coarse, fine, lengths + 1), ("lengths", [9, 5])),
    ):
        with pytest.raises(UserError, match=naming(*words)):
            net(*data)
    with pytest.raises(UserError, match=naming("gates", (2, 8))):
        net(coarse, fine, gates=torch.zeros(2, 7))
    with pytest.raises(UserError, match=naming("labels", "0..2")):
        net.losses(net(coarse, fine), torch.tensor([0, 3]))
    with pytest.raises(UserError, match=naming("n", 0)):
        net.start(0)
    net.gate_threshold.fill_(-1e9)
    with pytest.raises(UserError, match=naming("fine", 2, (1, FINE))):
        net.step(coarse[:, 0], lambda _: fine[:1, 0], net.start(2))
    fine[1, 2] = torch.inf
    with pytest.raises(UserError, match=naming("fine", "NaN", [1])):
        net(coarse, fine)
    with pytest.raises(UserError, match=naming("fine", "NaN")):
        net.step(coarse[:, 2], lambda rows: fine[rows, 2], net.start(2))


@pytest.mark.parametrize("synchronise", [True, False])
def test_no_parameter_is_left_without_gradient(synchronise):
    net = model(synchronise=synchronise)
    losses = net.losses(net(*inputs([8, 4])), torch.tensor([0, 2]))
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]
