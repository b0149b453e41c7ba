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
