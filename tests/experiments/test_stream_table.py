import numpy as np
import pytest
import torch
from torchvision.models.segmentation import FCN

from dynbackbones import video
from dynbackbones.analysis.prediction import Prediction
from dynbackbones.experiments import stream_table
from dynbackbones.experiments.stream_clips import DetectionClip, SegmentationClip
from dynbackbones.experiments.stream_measured import measure
from dynbackbones.video.adapters import adapter_of
from dynbackbones.video.features import FeatureAdapter
from tests.video.toy_clip import FindsBox, SeesColours, panned

pytest.importorskip("cv2")
PLACES = [0] * 5 + [3 * t for t in range(1, 6)] + [15] * 5 + [15 + 3 * t for t in range(5)]
FRAMES = panned([(x, 0) for x in PLACES], 48, 64)


def labels_of(maps):
    return maps.argmax(dim=0)


@pytest.fixture(scope="module")
def segmented():
    model = SeesColours()
    truth = [labels_of(model(frame)) for frame in FRAMES]
    truth[3] = truth[3].clone()
    truth[3][:2] = 255
    clip = SegmentationClip(FRAMES, truth, 3, labels_of)
    return measure(adapter_of(model), clip, max_age=8)


def test_the_table_is_what_streams_really_show(segmented):
    clip = segmented.clip
    for way in ("copy", "warp"):
        for schedule in (video.Every(3), video.Difference(0.02)):
            stream = video.Stream(
                SeesColours(), schedule=schedule, propagation=way, cut=None, max_age=8
            )
            outcomes, keys = {}, []
            for t, frame in enumerate(FRAMES):
                outcomes[t] = clip.outcome(t, stream(frame))
                keys += [t] if stream.decision.key else []
            assert clip.score(outcomes) == pytest.approx(segmented.score(way, keys), abs=1e-9)
            if isinstance(schedule, video.Difference):
                assert keys == segmented.keys_where(segmented.differences > 0.02)


class Halves(torch.nn.Module):
    """Its features are the pixels at half the resolution."""

    def forward(self, pixels):
        return {"out": torch.nn.functional.avg_pool2d(pixels, 2)}


def test_moved_features_stand_beside_moved_results():
    model = FCN(Halves(), torch.nn.MaxPool2d(3, 1, 1))
    features = FeatureAdapter(adapter_of(model.eval().requires_grad_(False)))
    model.register_parameter("none", torch.nn.Parameter(torch.zeros(1)))  # which says the device
    labels = lambda result: labels_of(result["out"][0])  # noqa: E731
    truth = [labels(features.run(frame)[0]) for frame in FRAMES[:9]]
    clip = SegmentationClip(FRAMES[:9], truth, 3, labels)
    found, plain = (measure(one, clip, max_age=4) for one in (features, features.whole))
    assert set(found.outcomes) == {"copy", "warp", "features"}
    for way in ("copy", "warp"):
        for one, other in zip(found.outcomes[way], plain.outcomes[way], strict=True):
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    stream = video.Stream(model, schedule=video.Every(3), moves="features", cut=None)
    shown = {t: clip.outcome(t, stream(frame)) for t, frame in enumerate(clip.frames)}
    assert clip.score(shown) == pytest.approx(found.score("features", [0, 3, 6]), abs=1e-9)
    assert found.score("copy", [0, 3, 6]) < clip.score(shown) < 100
    table = stream_table.rows(found, shares=[1 / 3], seeds=[0])
    assert sum(row.way == "features" for row in table) == 4


def test_a_class_that_is_only_predicted_counts_as_in_a_test():
    truth = torch.zeros(2, 8, 8, dtype=torch.long)
    truth[:, 4:] = 1
    clip = SegmentationClip(FRAMES[:2], list(truth), 3, lambda labels: labels)
    wrong = truth[1].clone()
    wrong[0, :4] = 2
    outcomes = {0: clip.outcome(0, truth[0]), 1: clip.outcome(1, wrong)}
    assert clip.score({0: outcomes[0]}) == 100
    assert clip.score(outcomes) == pytest.approx(100 * (60 / 64 + 1 + 0) / 3)


def test_every_schedule_has_a_row(segmented):
    table = stream_table.rows(segmented, shares=[1 / 3], seeds=[0, 1])
    assert table[0].score == 100  # the model is the truth here
    by_name = {(row.way, row.name): row for row in table[1:]}
    names = ["every 3", "random", "difference", "oracle"]
    assert set(by_name) == {(way, name) for way in ("copy", "warp") for name in names} | {
        ("warp", "agreement")
    }
    for (way, name), row in by_name.items():
        assert row.score <= by_name[way, "oracle"].score + 1, name
        assert row.share == pytest.approx(1 / 3, abs=0.1)
    assert by_name["warp", "every 3"].score > by_name["copy", "every 3"].score
    assert by_name["warp", "oracle"].captured == 1
    text = stream_table.markdown(table, "mIoU")
    assert text.count("\n") == len(table) + 1 and "mIoU" in text


def test_results_get_worse_with_age(segmented):
    ages = stream_table.by_age(segmented)
    assert list(ages["copy"]) == [0, 1, 2, 3, 5, 8]
    for way in ages.values():
        assert way[0] == 100 and way[8] < way[1]


def test_boxes_are_scored_by_coco():
    model = FindsBox([20.0, 10, 40, 30])
    annotations = {
        "images": [{"id": t + 1, "height": 48, "width": 64} for t in range(len(FRAMES))],
        "annotations": [
            {
                "id": t + 1,
                "image_id": t + 1,
                "category_id": 7,
                "bbox": [20, 10, 20, 20],
                "area": 400,
                "iscrowd": 0,
            }
            for t in range(len(FRAMES))
        ],
        "categories": [{"id": 5, "name": "a"}, {"id": 7, "name": "b"}],
    }
    clip = DetectionClip(FRAMES, annotations, range(1, len(FRAMES) + 1), [5, 7])
    measured = measure(adapter_of(model), clip, max_age=4)
    assert measured.score("copy", range(len(FRAMES))) == pytest.approx(100)
    assert measured.score("copy", range(0, len(FRAMES), 5)) == pytest.approx(100)
    assert measured.score("warp", range(0, len(FRAMES), 5)) < 100  # the box should not move here
    assert measured.errors["copy"][5, 0] == 0
    nothing = Prediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), (48, 64))
    assert clip.error(0, nothing) == 1 and clip.score({0: nothing}) == 0


def test_times_are_taken_side_by_side():
    seen = []
    runs = {name: lambda image, n=name: seen.append(n) for name in ("a", "b")}
    found = stream_table.timed(runs, [np.zeros((2, 2, 3), np.uint8)] * 6)
    assert seen == ["a", "b", "b", "a"] * 3
    assert found["a"]["ratio"] == 1 and found["b"]["max"] >= found["b"]["mean"] > 0
