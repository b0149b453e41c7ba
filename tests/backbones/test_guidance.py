import pytest
import torch

import dynbackbones
from dynbackbones.backbones.guidance import Guidance
from tests.messages import naming

EDGES = torch.tensor([0, 16, 32, 40])


def test_boxes_touch_the_cells_that_they_overlap():
    boxes = torch.tensor([[0.0, 0.0, 15.9, 16.0], [33.0, 20.0, 90.0, 30.0], [5.0, 5.0, 5.0, 9.0]])
    found = Guidance(boxes=[boxes, boxes[:0]]).importance(EDGES, EDGES)
    assert found.int().tolist() == [[[1, 0, 0], [0, 0, 1], [0, 0, 0]], [[0] * 3] * 3]


def test_a_map_gives_a_cell_its_most_important_pixel():
    maps = torch.zeros(1, 38, 40)
    maps[0, 17, 39] = 0.5
    maps[0, 20, 33] = 0.25
    found = Guidance(maps=maps).importance(EDGES, EDGES)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, 0.5], [0, 0, 0]]


@pytest.mark.parametrize(
    ("given", "value"),
    [({"boxes": [torch.zeros(3, 5)]}, (3, 5)), ({"maps": torch.zeros(2, 8)}, (2, 8))],
)
def test_wrong_shapes(given, value):
    net = dynbackbones.build_backbone("sar_resnet18")
    with pytest.raises(ValueError, match=naming(next(iter(given)), value)):
        net.set_guidance(**given)


def guided(**options):
    torch.manual_seed(0)
    return dynbackbones.build_backbone(
        "sar_resnet18", **{"layout": "resnet", "guidance": "objects", **options}
    )


def losses(net, images, boxes):
    net.set_guidance(boxes=boxes)
    net(images)
    return net.auxiliary_losses()


def test_it_belongs_to_the_next_pass_that_is_trained():
    net, images = guided(), torch.rand(1, 3, 64, 64)
    net.set_guidance(boxes=[torch.tensor([[0.0, 0.0, 30.0, 30.0]])])
    with net.no_auxiliary():
        net(images)
    net.eval()(images)
    net.train()(images)
    assert "loss_guidance" in net.auxiliary_losses()
    net(images)
    assert "loss_guidance" not in net.auxiliary_losses()


def test_it_draws_selectors_to_the_cells_and_only_there():
    net, images = guided(), torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for stage in net.stages().values():
            for selector in stage.selectors:
                selector.fc.bias[1] = selector.fc.bias[0]  # undecided
    boxes = [torch.tensor([[0.0, 0.0, 20.0, 20.0]]), torch.zeros(0, 4)]
    kept = {}
    stage = net.layer1
    stage.register_forward_hook(lambda m, i, o: kept.update(logits=o.choice.logits))
    loss = losses(net, images, boxes)["loss_guidance"]
    assert float(loss) == pytest.approx(net.guidance_weight)  # the margin, nothing of it reached
    (gradient,) = torch.autograd.grad(loss, kept["logits"])
    touched = (gradient != 0).any(dim=(1, 2))[:, None, None]
    assert torch.equal(touched.squeeze(), gradient.squeeze() < 0)
    assert touched[0].squeeze()[:2, :2].all() and touched.sum() == 4


def test_without_any_box_it_is_zero_and_has_a_gradient():
    net = guided()
    loss = losses(net, torch.rand(1, 3, 64, 64), [torch.zeros(0, 4)])["loss_guidance"]
    assert float(loss) == 0
    loss.backward()


def test_cells_outside_the_image_do_not_count():
    net, images = guided(), torch.rand(1, 3, 64, 96)
    box = [torch.tensor([[70.0, 0.0, 90.0, 30.0]])]
    net.set_guidance(boxes=box)
    net(images, image_sizes=[(64, 64)])
    assert float(net.auxiliary_losses()["loss_guidance"]) == 0


def test_guidance_none_is_the_papers_training():
    images = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    net = dynbackbones.build_backbone("sar_resnet18")
    torch.manual_seed(1)
    expected = net(images)["res5"], net.auxiliary_losses()
    net.set_guidance(boxes=[torch.tensor([[0.0, 0.0, 30.0, 30.0]])] * 2)
    torch.manual_seed(1)
    net(images)
    found = net.auxiliary_losses()
    assert found.keys() == expected[1].keys() == {"loss_activation_rate"}
    assert torch.equal(found["loss_activation_rate"], expected[1]["loss_activation_rate"])


def test_another_number_of_images_is_refused():
    net = guided()
    with pytest.raises(ValueError, match=naming("guidance", 1)):
        losses(net, torch.rand(2, 3, 64, 64), [torch.zeros(0, 4)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": "classes"}, ["guidance_classes", "()", "'classes'"]),
        ({"guidance_classes": (1,)}, ["guidance_classes", "(1,)", "'none'"]),
        ({"guidance": "objects", "guidance_classes": [0]}, ["guidance_classes", "'objects'"]),
        ({"guidance": "classes", "guidance_classes": (-1,)}, ["guidance_classes", "(-1,)"]),
        ({"guidance": "classes", "guidance_classes": 3}, ["guidance_classes", 3]),
    ],
)
def test_chosen_classes_and_their_kind_go_together(options, words):
    with pytest.raises(ValueError, match=naming(*words)):
        dynbackbones.build_backbone("sar_resnet18", **options)


def test_a_map_may_end_before_the_cells_and_cells_may_be_empty():
    maps = torch.zeros(1, 20, 16)
    maps[0, 19, 0] = 0.5
    found = Guidance(maps=maps).importance(torch.tensor([0, 16, 16, 32, 40]), EDGES)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, 0], [0.5, 0, 0], [0, 0, 0]]
    net = guided(guidance="borders", grid_size=7).train()
    net.set_guidance(maps=torch.ones(1, 60, 60))
    net(torch.rand(1, 3, 64, 64))
    assert net.auxiliary_losses()["loss_guidance"].isfinite()
