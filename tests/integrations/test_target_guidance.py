"""What targets of each framework say of where to look."""

from types import SimpleNamespace

import torch
from torch import nn

import dynbackbones
from dynbackbones.integrations.guidance import borders, pass_boxes, pass_guidance


class Model(nn.Module):
    def __init__(self, guidance, **options):
        super().__init__()
        self.backbone = dynbackbones.build_backbone("sar_resnet18", guidance=guidance, **options)


def guided(model, args=(), kwargs=None, count=1):
    """What the backbone would be guided by."""
    pass_guidance(model, args, kwargs or {})
    return model.backbone._take_guidance(torch.zeros(count, 3, 8, 8))


def test_boxes_of_an_mmdet_sample():
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0]])
    for held in (boxes, SimpleNamespace(tensor=boxes)):
        sample = SimpleNamespace(gt_instances=SimpleNamespace(bboxes=held))
        found = guided(Model("objects"), (torch.zeros(1, 3, 8, 8), [sample], "loss"))
        assert torch.equal(found.boxes[0], boxes)


def test_boxes_of_a_detectron2_dict():
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0]])
    instances = SimpleNamespace(gt_boxes=SimpleNamespace(tensor=boxes))
    entry = {"image": torch.zeros(3, 8, 8), "instances": instances}
    assert torch.equal(guided(Model("objects"), ([entry],)).boxes[0], boxes)


def test_borders_of_labels():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :, 4:] = 1
    sample = SimpleNamespace(gt_sem_seg=SimpleNamespace(data=labels))
    found = guided(Model("borders"), kwargs={"data_samples": [sample], "mode": "loss"}).maps
    assert found[0, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    entry = {"image": torch.zeros(3, 8, 8), "sem_seg": labels[0]}
    assert torch.equal(guided(Model("borders"), ([entry],)).maps, found)


def test_pixels_of_chosen_classes():
    labels = torch.tensor([[[0, 3, 5, 255, 1, 3, 0, 0]] * 8])
    sample = SimpleNamespace(gt_sem_seg=SimpleNamespace(data=labels))
    model = Model("classes", guidance_classes=[3, 5])
    found = guided(model, kwargs={"data_samples": [sample], "mode": "loss"}).maps
    assert found[0, 0].tolist() == [0, 1, 1, 0, 0, 1, 0, 0]


def test_boxes_of_chosen_classes():
    boxes, labels = torch.arange(12.0).view(3, 4), torch.tensor([2, 0, 1])
    model = Model("classes", guidance_classes=(1, 2))
    sample = SimpleNamespace(gt_instances=SimpleNamespace(bboxes=boxes, labels=labels))
    instances = SimpleNamespace(gt_boxes=SimpleNamespace(tensor=boxes), gt_classes=labels)
    entry = {"image": torch.zeros(3, 8, 8), "instances": instances}
    for args in ((torch.zeros(1, 3, 8, 8), [sample], "loss"), ([entry],)):
        assert torch.equal(guided(model, args).boxes[0], boxes[[0, 2]])
    pass_boxes(model, [{"boxes": boxes, "labels": labels}])
    assert torch.equal(guided(model).boxes[0], boxes[[0, 2]])
    pass_boxes(model, None)
    assert guided(model) is None


def test_ignored_pixels_have_no_border():
    labels = torch.tensor([[0, 255, 1], [0, 0, 1]])
    assert borders(labels).int().tolist() == [[0, 0, 1 - 1], [0, 1, 1]]


def test_nothing_is_said_where_it_is_not_asked_for():
    sample = SimpleNamespace(gt_instances=SimpleNamespace(bboxes=torch.zeros(0, 4)))
    args = (torch.zeros(1, 3, 8, 8), [sample], "loss")
    assert guided(Model("none"), args) is None
    assert guided(Model("borders"), args) is None
    model = Model("objects").eval()
    pass_guidance(model, args, {})
    assert guided(model.train()) is None


def test_labels_of_several_sizes_are_padded():
    # detectron2 pads images within the model, and labels after them.
    sizes = (8, 4), (6, 8)
    entries = [{"image": torch.zeros(3, *s), "sem_seg": torch.full(s, 1)} for s in sizes]
    found = guided(Model("classes", guidance_classes=(1,)), (entries,), count=2).maps
    assert found.shape == (2, 8, 8)
    assert found[0].sum() == 32 and found[0, :, :4].all()
    assert found[1].sum() == 48 and found[1, :6].all()
