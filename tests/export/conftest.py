import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def seeded_module():
    """Networks of a module's fixtures are the same in each run."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
