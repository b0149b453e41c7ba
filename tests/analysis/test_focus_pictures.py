import numpy as np
import pytest
import torch
from PIL import Image

from dynbackbones.analysis.focus_pictures import FocusRow, save_focus_picture
from tests.classifiers.made import focused, images
from tests.messages import naming


def test_a_row_shows_the_steps_that_were_taken(tmp_path):
    net, x = focused(exits=[0.0, 0.0, 0.0]), images(2, (64, 64))
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    found = {}
    for kind in ("none", "all"):
        with torch.no_grad(), net.select(kind):
            net(x)
        row = FocusRow(picture, net.decisions, 1)
        path = save_focus_picture(tmp_path / "made" / "a.png", [row])
        with Image.open(path) as file:
            found[kind] = np.asarray(file.convert("RGB")).astype(int)
    assert found["none"].shape == found["all"].shape
    # The last of five panels is blank where the step was not taken.
    blank = {kind: (p[:, -150:] == 255).all() for kind, p in found.items()}
    assert blank == {"none": True, "all": False}
    with pytest.raises(ValueError, match=naming("rows")):
        save_focus_picture(tmp_path / "b.png", [])
