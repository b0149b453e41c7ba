"""Policies that are trained on gains, their files, and what was measured for them."""

import math

import pytest
import torch

from dynbackbones import checkpoints
from dynbackbones.errors import UserError
from dynbackbones.zoom.boxes import Boxes
from dynbackbones.zoom.learned import LearnedPolicy, load_policy
from dynbackbones.zoom.measured import TrueImage, measure_all, read_all
from dynbackbones.zoom.training import share_of_best_gain, train_policy
from tests.messages import naming
from tests.zoom.bright import bright_zoom, image_with

SETTINGS = {"patch": 32, "scale": 4.0, "halo": 8}


def samples(count=8):
    """An object somewhere in each of some images."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        x, y = (int(torch.randint(0, high - 6, (), generator=generator)) for high in (128, 96))
        truth = Boxes(
            torch.tensor([[x, y, x + 6, y + 6]]).float(), torch.ones(1), torch.zeros(1).long()
        )
        yield TrueImage(number, image_with((x, y, x + 6, y + 6)), truth)


@pytest.fixture(scope="module")
def zoom():
    return bright_zoom(policy="all", handover=1000)


@pytest.fixture
def measured(zoom, tmp_path):
    known = {sample.number: sample for sample in samples()}
    return measure_all(zoom, list(known), known.get, tmp_path / "gains", SETTINGS, lambda n, _: n)


def trained(measured, **options):
    parts = [m.described for m in measured], [m.gains for m in measured]
    return train_policy(*parts, num_classes=2, settings=SETTINGS, steps=150, **options)


def test_gains_are_where_the_objects_are(measured):
    assert all(m.gains.max() > 0 and (m.gains > 0).sum() == 1 for m in measured)


def test_a_policy_finds_them_and_one_serves_every_rate(measured):
    policy, figures = trained(measured)
    assert figures["share_of_best_gain"] > 0.9
    thresholds = [policy.threshold_at(rate) for rate in (0, 0.1, 0.5, 1)]
    assert thresholds == sorted(thresholds, reverse=True) and thresholds[0] == math.inf
    zoom = bright_zoom(policy=policy, rate=1 / 12, handover=1000)
    for sample in samples():
        zoom([sample.image])
        (m,) = (m for m in measured if m.number == sample.number)
        assert torch.equal(zoom.decisions.values[0], policy.predict(m.described).detach())


def test_the_policy_gradient_finds_them_too(measured):
    policy, figures = trained(measured, training="reinforce", rate=1 / 12)
    assert figures["share_of_best_gain"] > 0.9
    values = torch.cat([policy.predict(m.described).detach() for m in measured])
    gains = torch.cat([m.gains for m in measured])
    assert values[gains > 0].min() > values[gains <= 0].max()


@pytest.mark.parametrize("options", [{"training": "imitation"}, {"rate": 1.0}])
def test_options_out_of_range_are_refused(measured, options):
    with pytest.raises(ValueError, match=naming(*options, *options.values())):
        trained(measured, **options)


def test_the_same_seed_gives_the_same_policy(measured):
    one, two, other = (trained(measured, seed=seed)[0] for seed in (0, 0, 1))
    weights = [policy.layers[0].weight for policy in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_training_leaves_the_random_numbers_of_others_alone(measured):
    before = torch.get_rng_state()
    trained(measured)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_measured_evaluates_as_a_real_run(zoom, measured):
    for sample, m in zip(samples(), measured, strict=True):
        (found,) = zoom([sample.image])
        merged = m.merged(range(len(m.grid)), zoom.rules)
        assert torch.allclose(found.boxes, merged.boxes)
        assert torch.equal(found.labels, merged.labels)


def test_measuring_goes_on_where_it_was_stopped(zoom, tmp_path):
    known = {sample.number: sample for sample in samples()}
    loaded = []

    def load(number):
        if len(loaded) == 3:
            raise KeyboardInterrupt
        loaded.append(number)
        return known[number]

    def run():
        return measure_all(zoom, list(known), load, tmp_path, SETTINGS, lambda n, _: n)

    with pytest.raises(KeyboardInterrupt):
        run()
    loaded.clear()
    loaded.append("a place, so that the others fit")
    with pytest.raises(KeyboardInterrupt):
        run()
    assert loaded[1:] == [3, 4]


def test_other_settings_are_refused(zoom, measured, tmp_path):
    with pytest.raises(UserError, match=naming("patch", 32, 64)):
        read_all(tmp_path / "gains", {"patch": 64}, "measure")
    with pytest.raises(UserError, match=naming("none", "measure them")):
        read_all(tmp_path / "none", {}, "measure them")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_damaged_settings_are_named(measured, tmp_path, text):
    file = tmp_path / "gains" / "settings.json"
    file.write_text(text)
    with pytest.raises(UserError, match=naming(file, "remove", "dynbackbones zoom gains")):
        read_all(tmp_path / "gains", SETTINGS, "measure")


def test_files_that_are_no_measured_images_are_named(measured, tmp_path):
    file = sorted((tmp_path / "gains").glob("*.pth"))[0]
    content = checkpoints.load(file)
    grid = content["meta"]["grid"]
    for change in (
        {"meta": {}}, {"meta": {"number": 1, "grid": 3}}, {"meta": {"number": 1, "grid": [[0, 0]]}},
        {"model": {}}, {"meta": {"number": 1, "grid": [[10**4, 10**4], *grid[1:]]}},
    ):  # fmt: skip
        torch.save({**content, **change}, file)
        with pytest.raises(UserError, match=naming(file, "remove")):
            read_all(tmp_path / "gains", SETTINGS, "measure")


def test_a_policy_survives_its_file(measured, tmp_path):
    policy, _ = trained(measured)
    policy.save(tmp_path / "policy.pth")
    loaded = load_policy(tmp_path / "policy.pth")
    described = measured[0].described
    assert torch.equal(loaded.predict(described), policy.predict(described))
    assert loaded.threshold_at(0.25) == policy.threshold_at(0.25)
    with pytest.raises(UserError, match=naming("scale", 4.0, 2.0)):
        bright_zoom(policy=loaded, scale=2)


def test_other_files_are_no_policies(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=naming(tmp_path / "other.pth", "zoom train")):
        load_policy(tmp_path / "other.pth")


def test_a_policy_for_other_classes_is_refused():
    with pytest.raises(UserError, match=naming(3, 2)):
        bright_zoom(policy=LearnedPolicy(5, 3, SETTINGS))


@pytest.mark.parametrize(
    ("gains", "words"),
    [([torch.zeros(3)] * 3, [3]), ([torch.full((3,), 2.0)] * 4, [2])],
)
def test_gains_that_teach_nothing_are_refused(gains, words):
    with pytest.raises(UserError, match=naming(*words)):
        train_policy([torch.rand(3, 2)] * len(gains), gains, 2, SETTINGS)


def test_the_share_of_the_best_gain():
    gains = torch.tensor([0.0, 3.0, 1.0, -1.0])
    assert share_of_best_gain(gains, gains, 0.5) == 1
    assert share_of_best_gain(-gains, gains, 0.5) == pytest.approx(-1 / 4)
