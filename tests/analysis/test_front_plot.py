import pytest

from dynbackbones.analysis.front_plot import FrontPoint, front, plot_fronts


def test_the_front_is_what_nothing_cheaper_beats():
    points = [
        FrontPoint("dear", 2.0, 70),
        FrontPoint("worse", 1.5, 60),
        FrontPoint("cheap", 1.0, 65),
        FrontPoint("as cheap", 1.0, 64),
        FrontPoint("best", 3.0, 71),
        FrontPoint("in vain", 4.0, 71),
    ]
    assert [point.name for point in front(points)] == ["cheap", "dear", "best"]


def test_both_fronts_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    points = [FrontPoint("plain", 1.0, 60, 1.0), FrontPoint("SAR", 0.8, 61, decides=True)]
    plot_fronts(points, "AP", tmp_path / "new" / "fronts.png")
    assert (tmp_path / "new" / "fronts.png").read_bytes().startswith(b"\x89PNG")
