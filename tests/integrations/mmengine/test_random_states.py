import random
from types import SimpleNamespace

import numpy as np
import torch

from dynbackbones.integrations.mmengine import random_states


def draw():
    # The global generator is what is tested.
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002


def test_random_states_come_back(tmp_path):
    torch.save(random_states.random_state(), tmp_path / "state.pth")
    before = draw()
    assert draw() != before
    random_states.set_random_state(torch.load(tmp_path / "state.pth", weights_only=True))
    assert draw() == before


class Draws(torch.utils.data.Dataset):
    """Items that keep the random state while they are read."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        with random_states.random_state_kept():
            return index


def test_workers_of_data_loaders_leave_the_gpu_alone(monkeypatch):
    def refuse(*_):
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", refuse)
    loader = torch.utils.data.DataLoader(Draws(), num_workers=1, multiprocessing_context="fork")
    assert [int(item) for item in loader] == [0, 1]
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.arange(3))
    assert random_states.random_state()["cuda"].tolist() == [0, 1, 2]


def test_another_number_of_processes_is_said():
    warnings = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=warnings.append))
    states = random_states.RandomStates()
    states.read({"random_states": [random_states.random_state(), random_states.random_state()]})
    states.restore(runner)
    assert warnings[0].startswith("the checkpoint is of a run with 2 processes, this one has 1")
    states.restore(runner)
    assert len(warnings) == 1
    states.read({})
    states.restore(runner)


def test_numbers_after_a_block_are_those_without_it():
    torch.manual_seed(1)
    before = random_states.random_state()
    expected = draw()
    random_states.set_random_state(before)
    with random_states.random_state_kept():
        assert draw() == expected
    assert draw() == expected
