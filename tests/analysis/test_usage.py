import numpy as np
import pytest
import torch

import dynbackbones
from dynbackbones.analysis import UsageTable, save_usage_picture
from dynbackbones.analysis.usage import _spread
from tests.messages import naming


def test_usage_of_a_dataset():
    net = dynbackbones.build_backbone("blockdrop_cifar_resnet20").eval()
    usage = UsageTable()
    policies = torch.eye(9, dtype=torch.bool)[:4]
    for kind in (policies, "all"):
        with torch.no_grad(), net.select(kind):
            net(torch.randn(4, 3, 32, 32))
        usage.update(net.decisions)
    figures = usage.to_dict()
    assert figures["images"] == 8 and figures["num_blocks"] == 9
    assert figures["blocks"] == pytest.approx(5) and figures["blocks_std"] == pytest.approx(4)
    assert figures["distinct_policies"] == 5 and figures["largest_policy_share"] == 0.5
    assert figures["usage_per_block"]["res2_block1"] == pytest.approx(5 / 8)
    assert figures["usage_per_block"]["res4_block3"] == pytest.approx(4 / 8)
    assert figures["gmacs"] < net.macs(32, 32) / 1e9
    assert usage.blocks.tolist() == [1] * 4 + [9] * 4
    table = usage.table()
    assert "5.00 +- 4.00 of 9 (1 to 9)" in table and "5, the most frequent one for 50%" in table
    assert table.splitlines()[-1].split() == ["res4_block3", "50%", "#" * 20]


def test_decisions_of_other_networks_are_refused():
    net = dynbackbones.build_backbone("cifar_resnet20").eval()
    net(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=naming("BlockDrop", "Decisions")):
        UsageTable().update(net.decisions)


def test_picture_shows_the_images_in_order(tmp_path):
    from matplotlib import image

    # The image that uses k blocks has k's grey.
    blocks = [5, 1, 3]
    images = [np.full((8, 8, 3), 40 * k, dtype=np.uint8) for k in blocks]
    path = save_usage_picture(
        tmp_path / "new" / "usage.png", images, blocks, num_blocks=9, titles=["a", "b", "c"]
    )
    pixels = image.imread(path)[..., 0]
    row = pixels[-30]
    greys = row[row < 0.95]
    seen = list(dict.fromkeys((greys * 255 / 40).round().astype(int).tolist()))
    assert seen == [1, 3, 5]


def test_of_many_images_some_at_equal_distances_are_shown():
    assert _spread(list(range(10)), 4) == [0, 3, 6, 9]
    assert _spread([4, 2], 4) == [4, 2]
    assert _spread([4, 2], 1) == [4]


@pytest.mark.parametrize(
    ("images", "wrong", "words"),
    [
        (0, {}, ("images", "none")),
        (2, {"blocks": [1]}, ("blocks", 1, 2)),
        (1, {"titles": []}, ("titles", 0, 1)),
        (1, {"columns": 0}, ("columns", 0)),
        (1, {"limit": 0}, ("limit", 0)),
    ],
)
def test_wrong_arguments(tmp_path, images, wrong, words):
    images = [np.zeros((4, 4, 3), np.uint8)] * images
    options = {"blocks": [1] * len(images), **wrong}
    with pytest.raises(ValueError, match=naming(*words)):
        save_usage_picture(tmp_path / "usage.png", images, **options)
