"""The kernels under Triton's interpreter; `test_interpreted.py` runs this in a process of its own.

    TRITON_INTERPRET=1 python -m pytest tests/kernels/interpreted.py
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynbackbones.kernels import launch, operators, reference
from tests.fuzzing import fuzz
from tests.kernels import properties
from tests.kernels.properties import BLOCKS, MASKS


def test_the_interpreter_is_on():
    assert launch.INTERPRETED
    assert operators._implementation(torch.zeros(1)) is launch


@pytest.mark.parametrize("dtype", properties.TOLERANCES)
@fuzz(6)
@given(drawn=BLOCKS, mask=MASKS)
def test_selected_cells_are_what_the_masked_block_gives(dtype, drawn, mask):
    properties.check_masked_block(drawn, mask, dtype, "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@fuzz(6)
@given(drawn=BLOCKS, stride=st.sampled_from([1, 2]), early=st.booleans())
def test_kept_images_are_what_the_block_gives(dtype, drawn, stride, early):
    properties.check_whole_images(drawn, stride, early, dtype, "cpu")


@pytest.mark.parametrize(
    "name, options",
    [
        ("sar_resnet18", {"groups": 4, "alpha": 2}),
        ("sar_resnet18", {"layout": "resnet", "output_stride": 16}),
        ("blockdrop_resnet18", {}),
    ],
)
def test_networks_are_the_same_with_kernels(name, options):
    # BlockDrop's rows are pixels of whole images.
    size = (24, 40) if name.startswith("blockdrop") else (40, 56)
    properties.check_network(name, "cpu", size, **options)


@pytest.mark.parametrize("scale", [2, 4])
def test_blending(scale):
    out = torch.randn(2, 24, 9, 13).to(memory_format=torch.channels_last)
    base = torch.randn(2, 24, -(-9 // scale), -(-13 // scale)).to(memory_format=torch.channels_last)
    expected = out.clone()
    arguments = base, torch.rand(2, 24), torch.rand(2, 24), scale
    reference.blend_(expected, *arguments)
    launch.blend_(out, *arguments)
    assert torch.allclose(out, expected, atol=1e-6)


def test_maps_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="channels-last"):
        launch.blend_(torch.zeros(1, 8, 4, 4), *[torch.zeros(1, 8, 2, 2)] * 3, 2)
