import json

import numpy as np
import pytest
import torch

import dynbackbones
from dynbackbones import checkpoints
from dynbackbones.cli import running, train_net
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.resume import RandomStateHook
from dynbackbones.integrations.torchvision import engine
from dynbackbones.integrations.torchvision.config import load_config
from tests.messages import names, naming


@pytest.fixture
def run(command, datasets):
    """Runs the training tool in this process; by keyword: flags, and config overrides."""

    def call(config="sar_retinanet_scratch", flags=(), **options):
        options = {key.replace("__", "."): value for key, value in options.items()}
        train_net.main(command(config, flags, options))

    return call


class Crash(Exception):
    """What ends a run in these tests."""


@pytest.fixture
def crash_at(monkeypatch):
    """Makes training stop dead before an iteration (counted from 0)."""

    def set_crash(iteration):
        before = RandomStateHook.before_train_iter

        def crash(self, runner, batch_idx, data_batch=None):
            if runner.iter == iteration:
                raise Crash
            before(self, runner, batch_idx, data_batch)

        monkeypatch.setattr(RandomStateHook, "before_train_iter", crash)
        return lambda: monkeypatch.setattr(RandomStateHook, "before_train_iter", before)

    return set_crash


@pytest.fixture
def losses(monkeypatch):
    """All losses of every iteration, as they are trained on."""
    seen = {}
    after = RandomStateHook.after_train_iter

    def record(self, runner, batch_idx, data_batch=None, outputs=None):
        seen[runner.iter] = {name: value.item() for name, value in outputs.items()}
        after(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(RandomStateHook, "after_train_iter", record)
    return seen


def weights(folder):
    return checkpoints.load(folder / "model_final.pth")["model"]


# With workers the data are loaded elsewhere, with evaluation in between random numbers might be
# drawn that the resumed run does not draw; Faster R-CNN samples proposals at random.
@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("sar_retinanet_scratch", {"DATALOADER__NUM_WORKERS": "1", "TEST__EVAL_PERIOD": "3"}),
        ("sar_faster_rcnn", {}),
    ],
)
def test_a_killed_run_resumes_exactly(run, tmp_path, crash_at, losses, config, options):
    run(config, OUTPUT_DIR=str(tmp_path / "whole"), **options)
    whole = dict(losses)
    losses.clear()

    repair = crash_at(5)
    with pytest.raises(Crash):
        run(config, OUTPUT_DIR=str(tmp_path / "cut"), **options)
    assert set(losses) == {0, 1, 2, 3, 4}
    repair()
    losses.clear()
    # Whatever state the process is in, the checkpoint decides.
    torch.manual_seed(99)
    run(config, ["--resume"], OUTPUT_DIR=str(tmp_path / "cut"), **options)

    assert losses == {iteration: whole[iteration] for iteration in (3, 4, 5)}
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[key], second[key]) for key in first)
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "cut")
    ]
    assert results[0] == results[1]


def test_a_run_leaves_what_it_promises(run, tmp_path, losses, capsys):
    run()
    out = tmp_path / "out"
    assert sorted(losses) == list(range(6))
    assert all("loss_activation_rate" in values for values in losses.values())
    assert {"iter_3.pth", "iter_6.pth", "model_final.pth", "config.yaml"} <= {
        path.name for path in out.iterdir()
    }
    results = json.loads((out / "results.json").read_text())
    assert 0 <= results["bbox"]["AP50"] <= 100
    assert results["backbone"]["gmacs"] > 1e-3
    assert set(results["backbone"]) == {
        *("gmacs", "gmacs_std", "activation_rate", "activation_rate_std"),
        *(f"activation_rate_res{stage}" for stage in (2, 3, 4)),
    }
    assert list((out / "logs").glob("events.out.tfevents.*"))
    final = checkpoints.load(out / "model_final.pth")
    assert final["meta"]["iteration"] == 6
    assert "no CUDA device" in capsys.readouterr().out or torch.cuda.is_available()


def test_evaluation_alone_repeats_the_evaluation_of_training(run, tmp_path):
    run()
    folder = tmp_path / "out"
    trained = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text("the training's")
    tested = folder / "test_results.json"
    run(flags=["--eval-only"])
    assert json.loads(tested.read_text()) == trained
    tested.unlink()
    run(flags=["--eval-only"], MODEL__WEIGHTS=str(folder / "iter_6.pth"))
    assert json.loads(tested.read_text()) == trained
    assert (folder / "results.json").read_text() == "the training's"


def test_a_finished_run_is_only_evaluated_on_resuming(run, tmp_path, losses):
    run(SOLVER__MAX_ITER="3")
    before = weights(tmp_path / "out")
    losses.clear()
    (tmp_path / "out" / "results.json").unlink()
    run(flags=["--resume"], SOLVER__MAX_ITER="3")
    after = weights(tmp_path / "out")
    assert losses == {}
    assert (tmp_path / "out" / "results.json").exists()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_training_starts_from_given_weights(run, tmp_path, losses):
    run(SOLVER__MAX_ITER="3")
    first = dict(losses)
    losses.clear()
    run(
        SOLVER__MAX_ITER="1",
        OUTPUT_DIR=str(tmp_path / "next"),
        MODEL__WEIGHTS=str(tmp_path / "out" / "model_final.pth"),
    )
    # The same data and seed, so only the weights can make the difference.
    assert losses[0]["loss"] != first[0]["loss"]


def test_the_predictor_finds_what_the_evaluation_finds(run, command, tmp_path, datasets):
    from PIL import Image

    run(SOLVER__MAX_ITER="3")
    options = {"MODEL.RETINANET.SCORE_THRESH_TEST": "0.0"}
    args = train_net.parser().parse_args(command(options=options))
    predictor = engine.load_predictor(load_config(args.config_file, args.opts))
    path = sorted((datasets / "digits" / "val").iterdir())[0]
    with Image.open(path) as image:
        prediction = predictor.predict(np.array(image))
    assert len(prediction.boxes) == len(prediction.scores) == len(prediction.labels) > 0
    assert prediction.input_size == (64, 85)
    assert prediction.boxes[:, 2].max() <= 256.01
    assert prediction.boxes[:, 2].max() > 85
    assert set(prediction.labels.tolist()) <= set(range(-1, 5))
    assert prediction.decisions.macs.shape == (1,)
    with pytest.raises(ValueError, match=naming("image", "(H, W, 3)", (3, 8, 8))):
        predictor.predict(np.zeros((3, 8, 8), np.uint8))


def test_checkpoints_load_safely_and_hold_random_states(run, tmp_path):
    run(SOLVER__MAX_ITER="3")
    checkpoint = torch.load(tmp_path / "out" / "iter_3.pth", weights_only=True)
    (state,) = checkpoint["random_states"]
    assert set(state) == {"python", "numpy", "torch", "cuda"}


@pytest.fixture
def refused(run, capsys):
    """Runs into a mistake of the user; returns the one line that is printed."""

    def call(config="sar_retinanet_scratch", flags=(), **options):
        with pytest.raises(SystemExit) as exit_:
            running.run(lambda: run(config, flags, **options))
        assert exit_.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        return line

    return call


def test_another_runs_checkpoints(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "iter_3.pth").write_text("precious")
    assert names(refused(), tmp_path / "out", "--resume")
    assert (tmp_path / "out" / "iter_3.pth").read_text() == "precious"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["iter_3.pth"]
    assert names(refused(flags=["--resume"]), tmp_path / "out", "last_checkpoint")


def test_a_checkpoint_of_another_architecture(refused, run, tmp_path):
    run(SOLVER__MAX_ITER="3")
    line = refused(flags=["--resume"], MODEL__SAR__GROUPS="4")
    assert names(line, tmp_path / "out" / "iter_3.pth", "architecture")
    path = str(tmp_path / "out" / "model_final.pth")
    line = refused(MODEL__WEIGHTS=path, MODEL__SAR__DEPTH="34", OUTPUT_DIR=str(tmp_path / "other"))
    assert names(line, path, "architecture")
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_of_another_engine(refused, tmp_path):
    checkpoints.save(tmp_path / "out" / "model_0001.pth", {"weight": torch.zeros(1)}, {})
    (tmp_path / "out" / "last_checkpoint").write_text("model_0001.pth")
    assert names(refused(flags=["--resume"]), "model_0001.pth", "torchvision engine")


def test_a_malicious_checkpoint_is_not_run(refused, tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    (tmp_path / "out").mkdir()
    torch.save({"state_dict": {}, "meta": Malicious()}, tmp_path / "out" / "iter_1.pth")
    (tmp_path / "out" / "last_checkpoint").write_text(str(tmp_path / "out" / "iter_1.pth"))
    assert names(refused(flags=["--resume"]), tmp_path / "out" / "iter_1.pth", ".open")
    assert not (tmp_path / "executed").exists()


def test_a_moved_run_resumes(run, tmp_path, losses):
    run(SOLVER__MAX_ITER="3")
    losses.clear()
    (tmp_path / "out").rename(tmp_path / "moved")
    run(flags=["--resume"], OUTPUT_DIR=str(tmp_path / "moved"))
    assert set(losses) == {3, 4, 5}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"DATASETS__TRAIN": "('coco_2017_train',)"},
            ("coco_2017_train", "configs/demo/retinanet.yaml"),
        ),
        ({"DATASETS__TEST": "('dgits_val',)"}, ("'dgits_val'", "digits_val")),
        ({"MODEL__RETINANET__NUM_CLASSES": "4"}, ("NUM_CLASSES", "5 categories", 4)),
        ({"MODEL__WEIGHTS": "absent.pth"}, ("absent.pth", "exist")),
        ({"MODEL__WEIGHTS": "torchvision://resnet50"}, ("MODEL.WEIGHTS", "torchvision://resnet50")),
        ({"MODEL__SAR__GROUPS": "3"}, ("MODEL.SAR", "groups=3")),
        ({"SOLVER__IMS_PER_BATCH": "0"}, ("SOLVER.IMS_PER_BATCH", 0)),
        ({"SOLVER__MAX_ITERS": "3"}, ("SOLVER.MAX_ITERS", "SOLVER.MAX_ITER")),
    ],
)
def test_mistakes_end_in_one_line_and_write_nothing(refused, tmp_path, options, words):
    assert names(refused(**options), *words)
    assert not (tmp_path / "out").exists()


def test_nothing_to_evaluate(refused, run):
    assert names(refused(flags=["--eval-only"]), "MODEL.WEIGHTS", "model_final.pth")
    line = refused(flags=["--eval-only"], DATASETS__TEST="()")
    assert names(line, "DATASETS.TEST", "no dataset")


def test_batches_must_divide_among_processes(refused):
    assert names(refused(flags=["--num-gpus", "3"]), "SOLVER.IMS_PER_BATCH", 2, "3 processes")


def test_evaluation_is_optional(run, tmp_path):
    run(SOLVER__MAX_ITER="1", DATASETS__TEST="()")
    assert (tmp_path / "out" / "model_final.pth").exists()
    assert not (tmp_path / "out" / "results.json").exists()


def test_sync_norm_alone_is_plain_norm(run, tmp_path):
    run(SOLVER__MAX_ITER="1", DATASETS__TEST="()", MODEL__SAR__NORM="SyncBN")
    assert (tmp_path / "out" / "model_final.pth").exists()


def test_a_random_seed_is_resumed(run, tmp_path, losses):
    run(SEED="-1", SOLVER__MAX_ITER="3", DATASETS__TEST="()")
    seed = torch.load(tmp_path / "out" / "iter_3.pth", weights_only=True)["meta"]["seed"]
    run(flags=["--resume"], SEED="-1", SOLVER__MAX_ITER="6", DATASETS__TEST="()")
    again = torch.load(tmp_path / "out" / "iter_6.pth", weights_only=True)["meta"]["seed"]
    assert seed == again
    with pytest.raises(UserError, match=naming(tmp_path / "out", "--resume")):
        run(SEED="-1")


def test_weights_for_other_pixels_are_named(run, tmp_path, capsys):
    state = dynbackbones.build_backbone("sar_resnet18").state_dict()
    path, meta = tmp_path / "bgr.pth", {"cfg": "data_preprocessor = dict(to_rgb=False)"}
    torch.save({"state_dict": state, "meta": meta}, path)
    run(MODEL__WEIGHTS=str(path), INPUT__FORMAT="RGB", SOLVER__MAX_ITER="1", DATASETS__TEST="()")
    said = capsys.readouterr()
    assert f"{path} was trained on BGR images, and INPUT.FORMAT is RGB" in said.out + said.err
