import pytest

from tests.gpu.device import device as found_device
from tests.gpu.made_networks import exact_float32


@pytest.fixture
def device():
    """The CUDA device; `tests/conftest.py` fails a test that is marked ``cuda`` without one."""
    return found_device()


@pytest.fixture(autouse=True)
def no_tf32():
    with exact_float32():
        yield
