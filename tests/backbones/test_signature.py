import inspect
from dataclasses import dataclass

import pytest

from dynbackbones.backbones.signature import takes, unknown_option


def test_the_nearest_name_is_found():
    def closed(groups=2, alpha=2):
        raise NotImplementedError

    def opened(groups=2, **others):
        raise NotImplementedError

    closed, opened = map(inspect.signature, (closed, opened))
    assert unknown_option(["groups"], closed) is None
    found = unknown_option(["groups", "grops", "x"], closed)
    assert found == ("grops", "; did you mean 'groups'?")
    assert unknown_option(["pretrained"], closed) == ("pretrained", "")
    assert unknown_option(["grops"], opened) is None


def test_a_typo_among_shared_options_is_named_in_the_order_given():
    @dataclass(frozen=True)
    class Shared:
        groups: int = 2

    class Network:
        @takes(Shared)
        def __init__(self, *, options):
            self.groups = options.groups

    assert Network(groups=3).groups == 3
    with pytest.raises(TypeError, match=r"Network.__init__\(\) .*'grops'; did you mean 'groups'"):
        Network(grops=1, zzz=2)
