import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dynbackbones.errors import UserError
from dynbackbones.zoom import LearnedPolicy, ZoomSegmentor, segmentor
from tests.messages import naming
from tests.zoom.toy_segmentor import CLASSES, Adapter, Network, toy_image


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture
def make(model):
    def build(align_corners=False, **options):
        options = {"patch": 16, "scale": 4, "halo": 4} | options
        return ZoomSegmentor(model, adapter=Adapter(model, align_corners), **options)

    return build


ODD = [(48, 64), (33, 61), (9, 14), (1, 40), (100, 16)]


@pytest.mark.parametrize("size", ODD)
@pytest.mark.parametrize("align_corners", [False, True])
def test_nothing_chosen_is_the_coarse_pass(make, model, size, align_corners):
    zoom = make(align_corners, rate=0.0)
    (found,) = zoom([toy_image(*size)])
    (coarse,) = zoom.adapter.seen
    assert coarse == tuple(math.ceil(length / 4) for length in size)
    small = F.interpolate(toy_image(*size)[None], size=coarse, mode="bilinear", antialias=True)
    options = {"mode": "bilinear", "align_corners": align_corners}
    expected = F.interpolate(model(small), size=size, **options)[0]
    torch.testing.assert_close(found.logits, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.labels, found.logits.argmax(0))


@pytest.mark.parametrize("size", ODD)
def test_every_patch_is_the_pass_in_full(make, size):
    """A convolution of 3 x 3 pixels sees no more than the halo."""
    zoom = make(policy="all")
    (found,) = zoom([toy_image(*size)])
    torch.testing.assert_close(found.logits, zoom.model(toy_image(*size)[None])[0])
    assert torch.equal(zoom.whole(toy_image(*size)), found.labels)
    assert zoom.decisions.rate.tolist() == [1]
    assert set(zoom.adapter.seen[1:-1]) == {zoom.decisions.grids[0].crop_size}


def test_a_batch_is_its_images_one_by_one(make):
    images = [toy_image(48, 64), toy_image(33, 61, 1), toy_image(48, 64, 2)]
    zoom = make(rate=0.3, batch_crops=2)
    together = zoom(images)
    chosen = zoom.decisions.chosen
    for one, found, mask in zip(images, together, chosen, strict=True):
        (alone,) = zoom([one])
        assert torch.equal(zoom.decisions.chosen[0], mask)
        torch.testing.assert_close(alone.logits, found.logits)


def test_each_patch_comes_of_its_own_pass(make):
    zoom = make(rate=0.25)
    (found,) = zoom([toy_image(48, 64)])
    (chosen,) = zoom.decisions.chosen
    closely, coarse = make(policy="all"), make(policy="none")
    (fine,), (rough,) = closely([toy_image(48, 64)]), coarse([toy_image(48, 64)])
    assert 0 < chosen.sum() < len(chosen)
    for patch, (x1, y1, x2, y2) in enumerate(zoom.decisions.grids[0].cores):
        expected = fine if chosen[patch] else rough
        inside = (slice(None), slice(y1, y2), slice(x1, x2))
        torch.testing.assert_close(found.logits[inside], expected.logits[inside])


def test_the_most_undecided_patches_are_chosen(make, model):
    zoom = make(rate=0.25)
    with torch.no_grad():
        model.layer.weight.zero_()
        model.layer.bias.zero_()
        # Sure of the first class, but where it is dark.
        model.layer.weight[0, :, 1, 1] = 20
    picture = torch.ones(3, 32, 32)
    picture[:, :16, 16:] = 0
    zoom([picture])
    assert zoom.decisions.chosen[0].tolist() == [False, True, False, False]
    # In nats, less the bright pixels at its border.
    assert 0.5 < zoom.decisions.values[0][1] < math.log(CLASSES)


def test_what_is_kept_gives_the_same_map_as_a_call(make):
    zoom = make(rate=0.25)
    picture = toy_image(50, 75)
    (found,) = zoom([picture])
    coarse, values = zoom.looks(picture)
    fine = zoom.closely(picture, torch.nonzero(zoom.decisions.chosen[0])[:, 0].tolist())
    assert torch.equal(zoom.merged(coarse, fine), found.labels)
    assert len(zoom.closely(picture)) == len(values)


def test_anytime_begins_coarse_and_ends_as_every_patch(make):
    image, zoom = toy_image(48, 64), make(batch_crops=5)
    results, rates = [], []
    for found in zoom.anytime(image):
        results.append(found)
        rates.append(zoom.decisions.rate.item())
    assert rates == pytest.approx([0, 5 / 12, 10 / 12, 1])
    for found, (policy, rate) in zip(results[::3], (("none", None), ("all", None)), strict=True):
        (expected,) = make(policy=policy, rate=rate)([image])
        torch.testing.assert_close(found.logits, expected.logits)
    (expected,) = make(rate=5 / 12)([image])
    assert torch.equal(results[1].labels, expected.labels)


def test_anytime_ends_where_no_patch_is_worth_its_price_or_can_be_paid(make):
    image, zoom = toy_image(48, 64), make(batch_crops=1)
    _, values = zoom.looks(image)
    price = float(values.sort().values[-4])
    assert len(list(zoom.anytime(image, price=price))) == 5
    assert (values[zoom.decisions.chosen[0]] >= price).all()
    budget = zoom.macs(48, 64, 3 / 12)
    assert len(list(zoom.anytime(image, macs=budget))) == 4
    assert float(zoom.decisions.macs) == pytest.approx(budget)
    with pytest.raises(ValueError, match=naming("macs")):
        next(zoom.anytime(image, macs=1.0))


def test_large_images_have_no_logits(make, monkeypatch):
    zoom = make(rate=0.25)
    (small,) = zoom([toy_image(48, 64)])
    monkeypatch.setattr(segmentor, "LOGITS_UP_TO", CLASSES * 48 * 64 - 1)
    (large,) = zoom([toy_image(48, 64)])
    assert small.logits.shape == (CLASSES, 48, 64)
    assert large.logits is None
    assert torch.equal(large.labels, small.labels)


def test_a_segmentor_of_enlarged_images_sees_them_enlarged(make):
    zoom = make(rate=0.25, segmentor_scale=2.0)
    (found,) = zoom([toy_image(48, 64)])
    coarse, *crops = zoom.adapter.seen
    assert coarse == (24, 32)
    assert crops == [(48, 48)] * 3
    assert found.labels.shape == (48, 64)


def test_costs_are_those_of_the_passes(make):
    zoom = make(rate=0.25)
    zoom([toy_image(48, 64)])
    pixel = CLASSES * 3 * 9
    assert zoom.decisions.macs.tolist() == [pixel * (12 * 16 + 3 * 24 * 24)]
    assert zoom.full_macs(48, 64) == pixel * 48 * 64


def test_counting_leaves_a_model_in_training_as_it_is(make, model):
    model.norm = nn.BatchNorm2d(3)
    model.register_forward_pre_hook(lambda net, args: (net.norm(args[0]),))
    zoom = make().train()
    model.layer.eval()
    before = copy.deepcopy(model.state_dict())
    assert zoom.macs(48, 64, 0.25) > 0
    assert (zoom.training, model.norm.training, model.layer.training) == (True, True, False)
    torch.testing.assert_close(model.state_dict(), before)


def test_calibration_spends_its_budget(make):
    zoom = make()
    pictures = [toy_image(48, 64, seed) for seed in range(4)]
    assert zoom.calibrate(pictures, target_rate=0.5) == 0.5
    zoom(pictures)
    assert zoom.decisions.rate.mean() == 0.5


def test_a_step_of_a_loop_is_a_call(make):
    zoom = make()
    (stepped,) = zoom.val_step({"images": [toy_image(48, 64)]})
    (called,) = zoom([toy_image(48, 64)])
    assert torch.equal(stepped.labels, called.labels)


def test_a_copy_stands_alone(make, model):
    zoom = make()
    other = copy.deepcopy(zoom)
    with torch.no_grad():
        zoom.model.layer.weight.zero_()
    assert other.adapter.model is other.model
    assert other.model.layer.weight.abs().sum() > 0


def test_a_policy_of_other_classes_is_refused(make):
    policy = LearnedPolicy(4, CLASSES + 1, {})
    with pytest.raises(UserError, match=naming(CLASSES, CLASSES + 1, "policy")):
        make(policy=policy)


def test_scores_are_no_policy_of_maps(make):
    with pytest.raises(ValueError, match=naming("score", "entropy")):
        make(policy="score")


def test_an_unknown_segmentor_is_refused(model):
    with pytest.raises(UserError, match=naming("segmentor", "mmseg", "adapter")):
        ZoomSegmentor(model)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_patch_is_chosen_of_broken_images(make, bad):
    picture = toy_image(48, 64)
    picture[0, 5, 5] = bad
    with pytest.raises(UserError, match=naming("NaN")):
        make()([picture])


def test_broken_weights_are_named(make, model):
    zoom = make()
    with torch.no_grad():
        model.layer.bias.fill_(math.nan)
    zoom([toy_image(48, 64)])
    with pytest.raises(UserError, match=naming("weights", 1)):
        zoom.decisions.check_finite()


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.6, 0.7, 1.5])
@pytest.mark.parametrize("patch", [17, 22, 25])
def test_crops_that_the_models_scale_does_not_divide_come_back_whole(make, scale, patch):
    zoom = make(patch=patch, policy="all", segmentor_scale=scale)
    (found,) = zoom([toy_image(70, 61)])
    assert found.labels.shape == (70, 61)
    assert zoom.whole(toy_image(70, 61)).shape == (70, 61)
