import pytest
import torch

from dynbackbones.errors import UserError
from dynbackbones.integrations.openmmlab.datasets.subset_iou import SubsetIoUMetric
from tests.messages import naming


def scored(prediction, labels, **subsets):
    metric = SubsetIoUMetric(subsets)
    metric.dataset_meta = {"classes": ("a", "b", "c")}
    sample = {
        "pred_sem_seg": {"data": torch.tensor([prediction])},
        "gt_sem_seg": {"data": torch.tensor([labels])},
    }
    metric.process({}, [sample])
    return metric.compute_metrics(metric.results)


def test_iou_of_subsets_by_hand():
    # IoU: a 2/3 (one of its pixels is taken for c), b 1/2 (one ignored), c 0.
    found = scored([[0, 0, 2, 1, 1, 1]], [[0, 0, 0, 1, 255, 2]], ab=("a", "b"), a=("a",))
    assert found["mIoU"] == pytest.approx((66.67 + 50 + 0) / 3, abs=0.01)
    assert found["ab"] == pytest.approx((66.67 + 50) / 2, abs=0.01)
    assert found["a"] == pytest.approx(66.67, abs=0.01)


@pytest.mark.parametrize("classes", [("a", "x"), ()])
def test_a_subset_that_is_none(classes):
    word = "class 'x'" if classes else "no class"
    with pytest.raises(UserError, match=naming("subset wrong", word, "a, b, c")):
        scored([[0]], [[0]], wrong=classes)
