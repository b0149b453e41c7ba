import torch

from dynbackbones.layers.tracing import constant_when_compiled


def test_marks_are_torchs_own():
    theirs = torch.compiler.assume_constant_result(lambda: 1)
    ours = constant_when_compiled(lambda: 1)
    assert vars(ours) == vars(theirs) != {}
