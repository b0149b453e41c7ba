import pytest
import torch
from PIL import Image

import dynbackbones
from dynbackbones.analysis import RateSpread, correlation, save_spread_picture
from dynbackbones.analysis.costs import DecisionMeter
from tests.messages import naming

RATES = [0.0, 0.3, 0.3, 0.39, 0.4, 1.0]


@pytest.fixture(scope="module")
def spread():
    return RateSpread.of("activation_rate", RATES, [1.0, 2.0, 2.0, 2.5, 2.6, 5.0])


def test_shares_and_histogram(spread):
    assert spread.share_under(0.4) == pytest.approx(4 / 6)
    assert spread.share_under(0.3) == pytest.approx(1 / 6)
    counts = spread.counts()
    assert len(counts) == 20 and sum(counts) == 6
    assert [index for index, count in enumerate(counts) if count] == [0, 6, 7, 8, 19]
    assert spread.counts(10) == [1, 0, 0, 3, 1, 0, 0, 0, 0, 1]
    figures = spread.to_dict()
    assert figures["mean"] == pytest.approx(sum(RATES) / 6)
    assert figures["share_under"]["0.4"] == pytest.approx(4 / 6)
    assert (figures["min"], figures["max"], figures["rate"]) == (0, 1, "activation_rate")


def test_thirds_of_single_precision_are_where_they_belong():
    rates = (torch.arange(11, dtype=torch.float32) / 10).tolist()
    assert RateSpread.of("block_usage", rates, rates).counts(10) == [1] * 9 + [2]


def test_the_table_adds_up(spread):
    first, _, *rows = spread.table().splitlines()
    assert first.startswith("activation rate of an image 0.398")
    assert [row.split()[:5] for row in rows] == [
        ["0.0", "to", "0.1", "16.7%", "16.7%"],
        ["0.3", "to", "0.4", "50.0%", "66.7%"],
        ["0.4", "to", "0.5", "16.7%", "83.3%"],
        ["0.9", "to", "1.0", "16.7%", "100.0%"],
    ]


def test_picture(spread, tmp_path):
    path = save_spread_picture(tmp_path / "new" / "rates.png", spread)
    with Image.open(path) as picture:
        assert picture.width > 2 * picture.height


@pytest.mark.parametrize("figures", [([], []), ([0.5], [1.0, 2.0])])
def test_figures_of_no_or_other_images_are_refused(figures):
    with pytest.raises(ValueError, match=naming("rates", "gmacs", *map(len, figures))):
        RateSpread.of("activation_rate", *figures)


def test_what_nobody_counted_is_left_out(tmp_path):
    spread = RateSpread("share_of_frames", torch.tensor([0.25, 0.75]), None, what="video")
    figures = spread.to_dict()
    assert figures["videos"] == 2 and "gmacs" not in figures and "images" not in figures
    assert "share of frames of a video 0.500" in spread.table() and "videos" in spread.table()
    assert save_spread_picture(tmp_path / "rates.png", spread).is_file()


def test_correlation():
    x = torch.tensor([0.1, 0.2, 0.4])
    assert correlation(x, 3 * x + 1) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    assert correlation(x, torch.ones(3)) is None and correlation(x[:1], x[:1]) is None


def test_a_meter_has_the_spread_of_what_it_saw():
    net = dynbackbones.build_backbone("blockdrop_cifar_resnet20").eval()
    meter = DecisionMeter()
    for count in (1, 9):
        with torch.no_grad(), net.select("first", rate=count / 9):
            net(torch.randn(2, 3, 16, 16))
        meter.update(net.decisions)
    spread = meter.spread()
    assert spread.name == "block_usage"
    assert spread.rates.tolist() == pytest.approx([1 / 9, 1 / 9, 1, 1])
    assert spread.gmacs[0] < spread.gmacs[-1]
    assert meter.policies.sum(dim=1).tolist() == [1, 1, 9, 9]
    plain = DecisionMeter()
    static = dynbackbones.build_backbone("cifar_resnet20").eval()
    static(torch.randn(1, 3, 16, 16))
    plain.update(static.decisions)
    assert plain.spread() is None and plain.policies is None
