import pytest
import torch
from torch import multiprocessing

from dynbackbones.errors import UserError
from dynbackbones.integrations.engine import Launch
from dynbackbones.integrations.torchvision import distributed
from tests.messages import naming


def test_one_process_is_this_one(tiny_config):
    calls = []
    cfg, launch = tiny_config(), Launch()
    distributed.start(lambda *given: calls.append(given), cfg, launch)
    assert calls == [(cfg, launch)]


@pytest.mark.parametrize("kind", ["dynbackbones.errors.UserError", "builtins.ValueError"])
def test_a_mistake_found_in_a_process_stays_one(tiny_config, monkeypatch, kind):
    def spawn(*args, **kwargs):
        text = f"-- Process 1 terminated with the following error:\nTraceback ...\n{kind}: what\n"
        raise multiprocessing.ProcessRaisedException(text, 1, 99)

    monkeypatch.setattr(multiprocessing, "spawn", spawn)
    with pytest.raises(Exception, match="what") as error:
        distributed.start(print, tiny_config(), Launch(num_gpus=2))
    assert (type(error.value) is UserError) == kind.startswith("dynbackbones")
    if type(error.value) is UserError:
        assert str(error.value) == "what"


def test_fewer_gpus_than_processes(tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=naming("--num-gpus 2", 1)):
        distributed.start(print, tiny_config(), Launch(num_gpus=2))
