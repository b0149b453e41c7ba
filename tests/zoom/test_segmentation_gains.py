import pytest
import torch

from dynbackbones.errors import UserError
from dynbackbones.zoom import ZoomSegmentor
from dynbackbones.zoom.segmentation_gains import (
    IGNORED,
    class_weights,
    confusion,
    mean_iou,
    measure_maps,
)
from tests.messages import naming
from tests.zoom.toy_segmentor import CLASSES, Adapter, Network, toy_image

SIZES = [(48, 64), (33, 61)]


@pytest.fixture
def make():
    torch.manual_seed(0)
    model = Network().eval()

    def build(**options):
        options = {"patch": 16, "scale": 4, "halo": 4} | options
        return ZoomSegmentor(model, adapter=Adapter(model), **options)

    return build


def labels_of(height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, CLASSES, (height, width), generator=generator)
    truth[:5, :7] = IGNORED
    return truth


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_what_was_measured_is_what_a_run_finds(make, size, rate):
    truth = labels_of(*size)
    measured = measure_maps(make(), toy_image(*size), truth)
    zoom = make(rate=rate)
    (found,) = zoom([toy_image(*size)])
    (chosen,) = zoom.decisions.chosen
    matrix = confusion(found.labels, truth, CLASSES)
    assert torch.equal(measured.confusion(chosen), matrix)
    assert matrix.sum() == (truth != IGNORED).sum()
    assert torch.equal(measured.values["entropy"], zoom.decisions.values[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_gains_of_patches_add_up(make, weighted):
    size = SIZES[1]
    truth = labels_of(*size)
    measured = measure_maps(make(), toy_image(*size), truth)
    weights = torch.tensor([0.5, 1, 4]) if weighted else None

    def right(chosen):
        matrix = measured.confusion(chosen).diagonal().double()
        return (matrix * (1 if weights is None else weights)).sum()

    nothing = torch.zeros(len(measured.grid), dtype=torch.bool)
    chosen = nothing.clone()
    chosen[[0, 3, 5]] = True
    gain = measured.gains(weights)[chosen].double().sum() * 16**2 / 100
    torch.testing.assert_close(gain, right(chosen) - right(nothing), rtol=1e-5, atol=1e-4)


def test_patches_without_classes_gain_nothing(make):
    truth = torch.full(SIZES[0], IGNORED)
    truth[:16, :16] = 1
    measured = measure_maps(make(), toy_image(*SIZES[0]), truth)
    assert measured.gains()[1:].abs().max() == 0
    assert measured.coarse[1:].sum() == 0
    empty = measure_maps(make(), toy_image(*SIZES[0]), torch.full(SIZES[0], IGNORED))
    assert empty.gains().tolist() == [0.0] * 12
    # Of classes that no image shows, none has a weight.
    assert class_weights([measured]).tolist() == [0, 1, 0]


def test_mean_iou_is_mmsegs(make):
    metrics = pytest.importorskip("mmseg.evaluation.metrics")
    truth = labels_of(*SIZES[0])
    truth[truth == 2] = 0
    (found,) = make(policy="all")([toy_image(*SIZES[0])])
    labels = found.labels.clamp(max=1)
    for classes in (2, CLASSES):  # with a class that is nowhere
        areas = metrics.IoUMetric.intersect_and_union(labels, truth, classes, IGNORED)
        theirs = (areas[0] / areas[1])[areas[1] > 0].mean() * 100
        ours = mean_iou(confusion(labels, truth, classes))
        assert ours == pytest.approx(float(theirs), rel=1e-6)


def test_weights_make_classes_equal(make):
    samples = [(toy_image(*SIZES[0], seed), labels_of(*SIZES[0], seed)) for seed in range(2)]
    measured = [measure_maps(make(), *sample) for sample in samples]
    weights = class_weights(measured)
    pixels = sum(m.coarse.sum(dim=(0, 2)) for m in measured)
    torch.testing.assert_close(weights * pixels, (weights * pixels)[0].expand(CLASSES))
    torch.testing.assert_close((weights * pixels).sum(), pixels.sum().double())


def test_labels_that_do_not_fit_are_named(make):
    truth = labels_of(*SIZES[0])
    with pytest.raises(UserError, match=naming((48, 64), (33, 61))):
        measure_maps(make(), toy_image(*SIZES[1]), truth)
    truth[20, 20] = 7
    with pytest.raises(UserError, match=naming("class 7", CLASSES, IGNORED)):
        measure_maps(make(), toy_image(*SIZES[0]), truth)
