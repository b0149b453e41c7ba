import json

import pytest
import torch

from dynbackbones.kernels import tiles
from dynbackbones.kernels.tiles import Tile, Work

WORK = Work("finish", 64, 256, torch.float16)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiles._tuned.cache_clear()
    yield tmp_path
    tiles._tuned.cache_clear()


@pytest.fixture
def card(monkeypatch):
    """A card that is fastest with 128 rows in 8 warps."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Some Card")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    import triton.testing

    run = []

    def bench(function, **_):
        function()
        return 1.0 if run[-1][:1] + run[-1][3:4] == (128, 8) else 2.0

    monkeypatch.setattr(triton.testing, "do_bench_cudagraph", bench)
    return run


class OnCard:
    device = torch.device("cuda")


def test_tuning_is_kept_for_the_card(card, cache):
    tiles.run_in_tiles(WORK, OnCard, card.append)
    assert card == [tiles.default_tile(WORK)]  # nobody asked
    with tiles.tuning():
        tiles.run_in_tiles(WORK, OnCard, card.append)
    assert (card[-1].rows, card[-1].warps) == (128, 8)
    (file,) = cache.rglob("*.json")
    assert "Some-Card" in file.name and list(json.loads(file.read_text())) == [WORK.name]
    tiles._tuned.cache_clear()
    tried = len(card)
    tiles.run_in_tiles(WORK, OnCard, card.append)
    assert card[tried:] == [card[tried - 1]]


@pytest.mark.parametrize("text", ["{", "[1]", '{"finish": [1, 2]}', '{"finish": ["a"]}'])
def test_a_broken_file_is_named_and_not_used(card, cache, text, caplog):
    file = tiles._file("Some Card")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    tiles.run_in_tiles(WORK, OnCard, card.append)
    assert card == [tiles.default_tile(WORK)]
    assert str(file) in caplog.text


def test_tiles_that_a_card_cannot_hold_are_passed_over(card):
    def run(tile: Tile) -> None:
        if tile.rows == 128:
            raise RuntimeError("out of resource")
        card.append(tile)

    with tiles.tuning():
        tiles.run_in_tiles(WORK, OnCard, run)
    assert card[-1].rows == 64
