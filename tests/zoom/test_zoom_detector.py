"""ZoomDetector: what the detector is shown, what is chosen, and what comes out."""

import copy
import math

import pytest
import torch

from dynbackbones import calibrate
from dynbackbones.errors import UserError
from dynbackbones.zoom import calibration
from dynbackbones.zoom.budget import best_of, threshold_for, worth_looking
from tests.messages import names, naming
from tests.zoom.bright import bright_zoom, image_with

FAR = (100, 70, 108, 82)  # in the last patch


def test_the_detector_sees_the_reduced_image_and_crops_alone():
    zoom = bright_zoom(rate=0.25)
    zoom([image_with(FAR)])
    assert zoom.adapter.seen == [(24, 32)] + [(48, 48)] * 3


def test_the_detector_is_shown_its_own_scale():
    zoom = bright_zoom(rate=1 / 12, detector_scale=2)
    (found,) = zoom([image_with(FAR)])
    assert zoom.adapter.seen == [(48, 64), (96, 96)]
    assert found.boxes.tolist() == [list(FAR)]


def test_one_pass_over_everything_is_at_the_detectors_scale():
    zoom = bright_zoom(detector_scale=2)
    found = zoom.whole(image_with(FAR))
    assert zoom.adapter.seen == [(192, 256)] and found.boxes.tolist() == [list(FAR)]


def test_what_is_found_closely_is_placed_in_the_image():
    zoom = bright_zoom(rate=1 / 12)
    (found,) = zoom([image_with(FAR)])
    assert found.boxes.tolist() == [list(FAR)] and zoom.decisions.chosen[0].nonzero().item() == 11


def test_no_patch_is_the_coarse_pass():
    image = image_with(FAR)
    zoom = bright_zoom(policy="none")
    (found,) = zoom([image])
    assert zoom.adapter.seen == [(24, 32)] and zoom.decisions.rate.tolist() == [0]
    coarse, _ = zoom.looks(image)
    assert torch.equal(found.boxes, coarse.boxes.boxes)


def test_every_patch_finds_what_each_shows():
    boxes = [(3, 3, 11, 11), FAR]
    # To this detector all that the coarse pass shows is one large object, which would stay.
    (found,) = bright_zoom(policy="all", handover=1000)([image_with(*boxes)])
    assert sorted(found.boxes.tolist()) == sorted(map(list, boxes))


def test_a_batch_is_as_its_images_one_by_one():
    images = [image_with(FAR), image_with((3, 3, 9, 9), size=(70, 50)), image_with(size=(5, 7))]
    zoom = bright_zoom(rate=0.5)
    together = zoom(images)
    rates = zoom.decisions.rate.tolist()
    for image, found, rate in zip(images, together, rates, strict=True):
        (alone,) = zoom([image])
        assert torch.equal(alone.boxes, found.boxes) and zoom.decisions.rate.tolist() == [rate]


def test_random_patches_are_the_images_own():
    zoom = bright_zoom(policy="random", rate=0.5)
    images = [torch.rand(1, 96, 128) * 0.4 for _ in range(4)]
    zoom(images)
    first = zoom.decisions.chosen
    zoom(images[2:])
    assert torch.equal(zoom.decisions.chosen[0], first[2])
    assert len({tuple(c.tolist()) for c in first}) > 1


def test_anytime_ends_as_every_patch_and_begins_coarse():
    image = image_with((3, 3, 11, 11), FAR)
    zoom = bright_zoom(batch_crops=5)
    results = list(zoom.anytime(image))
    rates = []
    for _ in zoom.anytime(image):
        rates.append(zoom.decisions.rate.item())
    assert rates == pytest.approx([0, 5 / 12, 10 / 12, 1])
    (every,) = bright_zoom(policy="all")([image])
    assert torch.equal(results[-1].boxes, every.boxes)


def test_anytime_ends_where_a_patch_is_not_worth_its_price():
    image = image_with((3, 3, 11, 11), FAR)
    zoom = bright_zoom(batch_crops=1)
    whole = list(zoom.anytime(image))
    values = zoom.decisions.values[0]
    price = float(values.max())
    few = list(zoom.anytime(image, price=price))
    assert int(zoom.decisions.chosen[0].sum()) == int((values >= price).sum()) == len(few) - 1
    assert len(few) < len(whole) == 13
    assert torch.equal(few[-1].boxes, whole[len(few) - 1].boxes)
    assert len(list(zoom.anytime(image, price=math.inf))) == 1
    with pytest.raises(ValueError, match=naming("price")):
        next(zoom.anytime(image, price=math.nan))


def test_anytime_ends_where_a_budget_is_spent():
    values, costs = torch.tensor([0.1, 0.7, 0.0, 0.4]), {"coarse": 3.0, "policy": 1.0, "crop": 2.0}
    for macs, order in ((4.0, []), (7.9, [1]), (8.0, [1, 3]), (math.inf, [1, 3, 0, 2])):
        assert worth_looking(values, -math.inf, macs, costs) == order
    assert worth_looking(values, 0.1, 10.0, costs) == [1, 3, 0]
    with pytest.raises(ValueError, match=naming("macs", 4, 3.5)):
        worth_looking(values, 0.0, 3.5, costs)


def test_figures_and_regions_of_decisions():
    zoom = bright_zoom(rate=0.25)
    zoom([image_with(FAR)])
    decisions = zoom.decisions
    figures = {name: figure.values.tolist() for name, figure in decisions.figures().items()}
    assert figures["patch_rate"] == [0.25]
    assert figures["pixel_rate"] == pytest.approx([1 / 16 + 3 * 48 * 48 / (96 * 128)])
    regions = decisions.regions()["zoom"]
    assert regions.masks.shape == (1, 1, 1, 3, 4) and regions.block_rates().item() == 0.25
    assert set(decisions.seconds) == {"coarse", "policy", "fine", "merge"}


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_calibration_spends_its_rate(rate):
    torch.manual_seed(0)
    images = [torch.rand(1, 96, 128) * 0.4 for _ in range(5)]
    zoom = bright_zoom(policy="random")
    reached = calibrate(zoom, images, target_rate=rate)
    assert reached == pytest.approx(rate, abs=1 / 60)
    zoom(images)
    assert zoom.decisions.rate.mean().item() == pytest.approx(reached)
    assert math.isfinite(zoom.threshold) == (0 < rate < 1)


def test_the_threshold_is_saved_and_copied():
    zoom = bright_zoom(policy="random")
    calibrate(zoom, [torch.rand(1, 96, 128) * 0.4], target_rate=0.5)
    other = bright_zoom(policy="random")
    other.load_state_dict(zoom.state_dict())
    assert other.threshold == zoom.threshold == copy.deepcopy(zoom).threshold


def test_calibration_meets_a_mean_time(monkeypatch):
    torch.manual_seed(0)
    images = [torch.rand(1, 96, 128) * 0.4 for _ in range(5)] + [torch.rand(1, 40, 64) * 0.4]
    zoom, asked = bright_zoom(policy="random"), []

    def prices(zoom, image):
        asked.append(tuple(image.shape[1:]))
        return {"coarse": 20.0, "policy": 1.0, "crop": 7.0 if image.shape[1] == 96 else 5.0}

    monkeypatch.setattr(calibration, "measured_prices", prices)
    reached = calibrate(zoom, images, target_ms=48.0)
    assert asked == [(96, 128), (40, 64)]  # each size once
    zoom(images)
    taken = [int(mask.sum()) for mask in zoom.decisions.chosen]
    assert reached == pytest.approx(21 + (7 * sum(taken[:5]) + 5 * taken[5]) / 6)
    assert 48 - 7 / 6 < reached <= 48
    with pytest.raises(UserError, match=naming("target_ms", "21")):
        calibrate(zoom, images, target_ms=10.0)


def test_times_are_measured_with_crops_and_nothing_changes():
    zoom = bright_zoom(rate=0.25, batch_crops=3)
    zoom.threshold.fill_(0.125)
    prices = calibration.measured_prices(zoom, image_with(FAR))
    assert set(prices) == {"coarse", "policy", "crop"} and min(prices.values()) > 0
    assert int(zoom.decisions.chosen[0].sum()) == 3
    assert zoom.rate == 0.25 and float(zoom.threshold) == 0.125


def test_calibration_says_when_values_are_tied():
    zoom = bright_zoom(policy="score")
    with pytest.warns(UserWarning, match="equal values"):
        calibrate(zoom, [image_with()], target_rate=0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({}, ["target_rate", "target_macs"]), ({"target_rate": 2}, ["target_rate", 2])],
)
def test_wrong_calibrations_are_refused(arguments, words):
    with pytest.raises(ValueError, match=naming(*words)):
        calibrate(bright_zoom(), [image_with()], **arguments)


@pytest.mark.parametrize(
    ("option", "value"),
    [("patch", 0), ("scale", 1), ("halo", 32), ("halo", -1), ("rate", 1.5), ("batch_crops", 0),
     ("policy", "nearest"), ("detector_scale", 0), ("handover", -1)],
)  # fmt: skip
def test_wrong_options_are_named(option, value):
    word = "model_scale" if option == "detector_scale" else option
    with pytest.raises(ValueError, match=naming(word, value)):
        bright_zoom(**{option: value})


def test_a_rate_without_effect_is_refused():
    with pytest.raises(ValueError, match=naming("all", "rate", 0.5)):
        bright_zoom(policy="all", rate=0.5)


def test_its_line_of_text_names_the_settings():
    assert names(bright_zoom(rate=0.5).detail, "1/4", 0.5, 32, 8, "score")
    zoom = bright_zoom(policy="random")
    calibrate(zoom, [torch.rand(1, 96, 128) * 0.4], target_rate=0.5)
    assert names(zoom.detail, f"{zoom.threshold:.4g}", "random")


def test_nan_is_refused_not_hidden():
    image = image_with(FAR)
    image[0, 3, 3] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        bright_zoom()([image])


def test_an_unknown_model_is_named():
    from dynbackbones.zoom import ZoomDetector

    with pytest.raises(UserError, match=naming("Linear", "torchvision")):
        ZoomDetector(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 1])
def test_the_best_share_is_chosen(rate):
    values = torch.tensor([0.1, 0.9, 0.5, 0.3])
    chosen = best_of(values, rate)
    assert chosen.sum() == math.floor(rate * 4 + 0.5)
    assert not len(values[~chosen]) or not len(values[chosen]) or (
        values[chosen].min() >= values[~chosen].max()
    )


def test_a_threshold_stays_in_its_budget_when_prices_differ():
    values = [torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.5])]
    assert threshold_for(values, [1.0, 10.0], 11.0) == 1.5  # 3 and 2 cost 11
    assert threshold_for(values, [1.0, 10.0], 10.9) == 2.5
    assert threshold_for(values, [1.0, 10.0], 0.5) == math.inf
    assert threshold_for(values, [1.0, 10.0], 22.0) == -math.inf
