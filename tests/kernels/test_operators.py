"""The operators as PyTorch sees them, with the reference behind them."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dynbackbones.kernels import blocks, operators
from dynbackbones.kernels.cells import SelectedCells
from dynbackbones.layers.residual import Bottleneck


@pytest.fixture
def tables():
    torch.manual_seed(0)
    masks = torch.rand(2, 1, 2, 3, 4) < 0.5
    return SelectedCells.from_masks(masks, 4)[0]


def arguments(tables, name):
    """Arguments of an operator on a 9 x 13 map of 32 channels."""
    where = tables.slots, tables.cells, tables.counts, 0, 0
    size, rows = [9, 13], torch.rand(2, tables.cells.shape[2] * 16, 8)
    out = torch.rand(2, 32, *size).to(memory_format=torch.channels_last)
    narrow = torch.rand(16, 9, 8), torch.rand(16)
    wide = torch.rand(32, 1, 8), torch.rand(32)
    given = {
        "to_rows": (out, torch.rand(16, 9, 16), torch.rand(16), *where, size, size, 4, 1, 1),
        "add_": (out, rows, *wide, *where, size, 4, 1, 1, True),
        "finish_": (out, rows, *narrow, *wide, *where, size, 4, 1, 1, True),
        "blend_": (out, torch.rand(2, 32, 5, 7), torch.rand(2, 32), torch.rand(2, 32), 2),
    }
    return given[name]


@pytest.mark.parametrize("name", ["to_rows", "add_", "finish_", "blend_"])
def test_compilers_are_told_the_truth(tables, name):
    operator = getattr(torch.ops.dynbackbones, name).default
    # Rows behind the last selected one mean nothing, so that they may differ each time.
    checks = "test_schema", "test_faketensor"
    torch.library.opcheck(operator, arguments(tables, name), test_utils=checks)


def test_operations_are_those_of_selected_pixels():
    block = Bottleneck(64, 64, groups=2).eval()
    masks = torch.zeros(1, 1, 2, 3, 4, dtype=torch.bool)
    masks[..., 0, :2], masks[:, :, 0, 1, 1] = True, True
    (cells,) = SelectedCells.from_masks(masks, 4)
    x = torch.rand(1, 64, 12, 16).to(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        blocks.add_residual_(x, block, x, cells)
    pixels = 5 * 16
    assert counter.get_total_flops() == 2 * pixels * block.macs_per_refined_pixel()


def test_a_cpu_runs_no_kernels_unless_it_interprets_them():
    with torch.no_grad():
        assert operators.interpreted() or not blocks.can_run([], torch.zeros(1, 8, 4, 4))


def test_kernels_refuse_more_groups_than_masks(monkeypatch):
    monkeypatch.setattr(operators, "interpreted", lambda: True)
    monkeypatch.setattr(blocks, "_device_fits", lambda kind, index: True)
    plain, grouped = (Bottleneck(32, 32, groups=2, cardinality=c).eval() for c in (1, 4))
    with torch.no_grad():
        assert blocks.can_run([plain], torch.zeros(1, 32, 4, 4))
        assert not blocks.can_run([plain, grouped], torch.zeros(1, 32, 4, 4))


@pytest.mark.parametrize("capability, fits", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_old_devices_compute_everything_and_say_so_once(monkeypatch, caplog, capability, fits):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some Card")
    monkeypatch.setattr(blocks.importlib.util, "find_spec", lambda name: name)
    blocks._missing.cache_clear()
    assert [blocks._device_fits("cuda", 0), blocks._device_fits("cuda", 0)] == [fits, fits]
    assert sum("Some Card" in r.getMessage() for r in caplog.records) == (0 if fits else 1)
    blocks._missing.cache_clear()


def test_rocm_computes_everything(monkeypatch, caplog):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(blocks.importlib.util, "find_spec", lambda name: name)
    blocks._missing.cache_clear()
    assert not blocks._device_fits("cuda", 0)
    assert "ROCm" in caplog.text
    blocks._missing.cache_clear()


def test_triton_may_be_missing(monkeypatch, caplog):
    monkeypatch.setattr(blocks.importlib.util, "find_spec", lambda name: None)
    blocks._missing.cache_clear()
    assert not blocks._device_fits("cuda", 0)
    assert "pip install triton" in caplog.text
    blocks._missing.cache_clear()
