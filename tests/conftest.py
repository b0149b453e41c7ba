import pytest
import torch


@pytest.fixture
def file(tmp_path):
    """Saves a file and returns its path."""

    def write(content, name="in.pth"):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write
