"""The C++ extension equals masked execution, as the eager form does."""

import copy
import logging
import pickle

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dynbackbones
from dynbackbones.layers import Bottleneck, SelectedPixels, sparse_forward
from dynbackbones.layers.native_rows import NativeRows, computed_types, extension
from tests.layers.test_sparse import BLOCKS_AND_MASKS, perturb


@settings(max_examples=60, deadline=None)
@given(
    **BLOCKS_AND_MASKS,
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    in_place=st.booleans(),
)
def test_it_equals_masked(
    block, images, height, width, groups, dilation, widens, final_relu, rate, dtype, in_place, seed
):
    assume(dtype in computed_types(extension()))
    generator = torch.Generator().manual_seed(seed)
    module = block(
        32, 64 if widens else 32, groups=groups, dilation=dilation, final_relu=final_relu
    ).eval()
    perturb(module, generator)
    in_place = in_place and not widens
    x = torch.rand(images, 32, height, width, generator=generator)
    x = x.to(dtype, memory_format=torch.channels_last)
    mask = torch.rand(images, groups, height, width, generator=generator) < rate
    with torch.no_grad():
        wanted = module(x.float(), mask)
        module = module.to(dtype)
        module.native_rows = NativeRows(module)
        assert module.native_rows.fits(x)
        before = x.clone()
        pixels = SelectedPixels.from_mask(mask, dilation)
        found = sparse_forward(module, x, pixels, in_place=in_place)
    assert found.dtype == dtype
    limit = 1e-5 if dtype == torch.float32 else 0.03 * float(wanted.abs().max().clamp(min=1))
    torch.testing.assert_close(found.float(), wanted, rtol=1e-4, atol=limit)
    assert in_place or torch.equal(x, before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["sar_resnet18", "sar_resnet50"])
@torch.no_grad()
def test_whole_networks_give_the_same(name, threads):
    torch.manual_seed(0)
    net = dynbackbones.build_backbone(name, groups=2).eval()
    fast = dynbackbones.optimize_for_inference(net, native_rows=True)
    used = [block for block in fast.modules() if getattr(block, "native_rows", None) is not None]
    assert len(used) == sum(len(stage.refined_blocks()) for stage in fast.stages().values())
    net.execution, fast.execution = "masked", "sparse"
    images, before = torch.randn(2, 3, 75, 90), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rate in (0.3, 1.0):
            with net.select("random", rate=rate, seed=1), fast.select("random", rate=rate, seed=1):
                wanted = net(images)
                for one in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
                    with one.select(net.decisions.choices()):
                        for key, value in one(images).items():
                            torch.testing.assert_close(value, wanted[key], atol=1e-4, rtol=1e-3)
    finally:
        torch.set_num_threads(before)


def test_what_it_does_not_compute_runs_eagerly():
    block = Bottleneck(32, 32).eval()
    block.native_rows = NativeRows(block)
    x = torch.rand(1, 32, 8, 8)
    pixels = SelectedPixels.from_mask(torch.ones(1, 1, 8, 8, dtype=torch.bool))
    sparse_forward(block, x.clone().requires_grad_(), pixels).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
    with torch.no_grad():
        assert not block.native_rows.fits(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not block.native_rows.fits(x)
        odd = Bottleneck(12, 12, groups=3).eval()  # a width of three, of one in each group
        assert not NativeRows(odd).fits(torch.rand(1, 12, 8, 8))
        grouped = Bottleneck(32, 32, cardinality=4).eval()
        assert not NativeRows(grouped).fits(x)


def test_a_machine_that_cannot_build_it_is_told_and_computes_eagerly(monkeypatch, caplog):
    def load(*args, **kwargs):
        raise RuntimeError("Ninja is required to load C++ extensions\nand so on")

    monkeypatch.setattr("torch.utils.cpp_extension.load", load)
    extension.cache_clear()
    try:
        net = dynbackbones.build_backbone("sar_resnet18").eval()
        with caplog.at_level(logging.WARNING, "dynbackbones"):
            fast = dynbackbones.optimize_for_inference(net, native_rows=True)
            dynbackbones.optimize_for_inference(net, native_rows=True)
        (record,) = (one for one in caplog.records if one.name == "dynbackbones")
        assert "Ninja is required" in record.getMessage()
        assert "pip install ninja" in record.getMessage()
        assert all(getattr(block, "native_rows", None) is None for block in fast.modules())
    finally:
        extension.cache_clear()


def test_an_extension_that_computes_wrongly_is_not_taken(monkeypatch):
    wrong = type("Wrong", (), {"rows": staticmethod(lambda *args: None)})
    with pytest.raises(RuntimeError, match="wrongly"):
        computed_types(wrong)


class WithoutAVX512:
    """As the extension is on processors with AVX2 alone."""

    def rows(self, source, index, weights, biases, widths, target, place, offset, relu):
        if source.dtype == torch.bfloat16:
            raise RuntimeError("no kernel")
        target.copy_(source @ weights[0] + biases[0])


def test_types_without_kernels_run_eagerly(monkeypatch):
    built = WithoutAVX512()
    assert computed_types(built) == (torch.float32,)
    monkeypatch.setattr("dynbackbones.layers.native_rows.extension", lambda: built)
    rows = NativeRows(Bottleneck(32, 32).eval())
    x = torch.rand(1, 32, 8, 8)
    with torch.no_grad():
        assert rows.fits(x) and not rows.fits(x.bfloat16())
