import pytest
import torch

from tests.gpu.device import device


@pytest.fixture
def file(tmp_path):
    """Saves a file and returns its path."""

    def write(content, name="in.pth"):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and device() is None:
        pytest.fail("needs a CUDA device, and there is none", pytrace=False)
