"""The kernels on a GPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzz
from tests.kernels import properties
from tests.kernels.properties import BLOCKS, MASKS

pytestmark = pytest.mark.cuda

@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("dtype", properties.TOLERANCES)
@fuzz(3)
@given(drawn=BLOCKS, mask=MASKS)
def test_selected_cells_are_what_the_masked_block_gives(exact, dtype, drawn, mask):
    properties.check_masked_block(drawn, mask, dtype, "cuda")


@pytest.mark.parametrize("dtype", properties.TOLERANCES)
@fuzz(3)
@given(drawn=BLOCKS, stride=st.sampled_from([1, 2]), early=st.booleans())
def test_kept_images_are_what_the_block_gives(exact, dtype, drawn, stride, early):
    properties.check_whole_images(drawn, stride, early, dtype, "cuda")


@pytest.mark.parametrize(
    "name, options",
    [
        ("sar_resnet50", {"groups": 2, "alpha": 2}),
        ("sar_resnet50", {"layout": "resnet", "output_stride": 8}),
        ("sar_resnet18", {"groups": 4, "alpha": 2}),
        ("blockdrop_resnet50", {}),
        ("blockdrop_resnet18", {}),
    ],
)
def test_networks_are_the_same_with_kernels(name, options):
    properties.check_network(name, "cuda", (230, 300), **options)
