"""Training, resuming and evaluating through detectron2."""

import json
import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.engine import HookBase, launch  # noqa: E402
from torch.multiprocessing import ProcessRaisedException  # noqa: E402

from dynbackbones import checkpoints  # noqa: E402
from dynbackbones.integrations.detectron2 import engine  # noqa: E402
from dynbackbones.integrations.detectron2.trainer import Trainer  # noqa: E402
from dynbackbones.integrations.engine import Launch  # noqa: E402
from dynbackbones.training.auxiliary import find_backbones  # noqa: E402
from dynbackbones.training.results import write_results  # noqa: E402
from dynbackbones.training.stopping import Stopped  # noqa: E402
from tests.messages import names, naming

pytestmark = pytest.mark.detectron2


class Kill(HookBase):
    """Ends a run between two iterations."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


class Record(HookBase):
    """Notes progress and learning rate at every iteration."""

    def __init__(self):
        self.progress, self.lr = {}, {}

    def after_step(self):
        backbone = find_backbones(self.trainer.model)[0]
        self.progress[self.trainer.iter] = backbone.progress
        self.lr[self.trainer.iter] = self.trainer.optimizer.param_groups[0]["lr"]


def metrics_of(folder):
    lines = (folder / "metrics.json").read_text().splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


def test_a_run_logs_losses_and_what_the_backbone_did(trained):
    metrics = metrics_of(trained)
    assert metrics["iteration"] == 20  # the evaluation's line, after iterations 0 to 19
    assert 0 < metrics["loss_activation_rate"] < 1
    for stage in ("res2", "res3", "res4"):
        assert 0 < metrics[f"decisions/activation_rate_{stage}"] <= 1
        assert 0 <= metrics[f"decisions/argmax_rate_{stage}_block1"] <= 1
    assert list(trained.glob("events.out.tfevents*"))
    log = (trained / "log.txt").read_text()
    assert "activation_rate_res2: " in log
    assert "GMACs per image" in log


def test_results_hold_detection_and_cost(trained):
    results = json.loads((trained / "results.json").read_text())
    assert {"AP", "AP50"} <= set(results["bbox"])
    backbone = results["backbone"]
    assert {f"activation_rate_{s}" for s in ("res2", "res3", "res4")} < set(backbone)
    assert backbone["gmacs"] > 0


def test_final_checkpoint_is_plain_weights_and_loads_again(trained, a_run, config):
    path = trained / "model_final.pth"
    checkpoint = checkpoints.load(path)
    assert checkpoint["meta"] == {"engine": "detectron2", "classes": ["red", "green"]}
    predictor = engine.load_predictor(config("MODEL.WEIGHTS", path))
    state = predictor.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in checkpoint["model"].items())


def test_evaluating_reproduces_the_results(trained, a_run, tmp_path):
    a_run("MODEL.WEIGHTS", trained / "model_final.pth", eval_only=True).main()
    results = json.loads((tmp_path / "output" / "test_results.json").read_text())
    expected = json.loads((trained / "results.json").read_text())
    assert results["backbone"] == pytest.approx(expected["backbone"])
    for key, value in expected["bbox"].items():
        assert results["bbox"][key] == pytest.approx(value)


def test_predictor_takes_rgb_and_answers_in_original_pixels(trained, config):
    cfg = config(
        *("MODEL.WEIGHTS", trained / "model_final.pth"),
        *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "INPUT.FORMAT", "BGR"),
    )
    predictor = engine.load_predictor(cfg)
    image = np.zeros((128, 160, 3), dtype=np.uint8)
    image[..., 0] = 255  # red
    seen = []
    predictor.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    prediction = predictor.predict(image)
    assert prediction.input_size == (64, 80)
    assert prediction.decisions.image_sizes == [(64, 80)]
    assert not predictor.model.training
    assert len(prediction.boxes) == len(prediction.scores) == len(prediction.labels) > 0
    assert prediction.boxes[:, 2].max() > 80  # beyond the resized image
    blue, _, red = seen[0][0, :, 0, 0].tolist()
    assert red > 0 > blue


def test_resuming_continues_where_the_run_was_killed(a_run):
    # A scaled learning rate splits the optimiser's groups, which must find their states again.
    opts = ("SOLVER.CHECKPOINT_PERIOD", 10, "MODEL.SAR.SELECTOR_LR_FACTOR", 2.0)
    cfg = a_run(*opts).setup()
    killed, record = Trainer(cfg), Record()
    killed.register_hooks([record, Kill(12)])
    with pytest.raises(KeyboardInterrupt):
        killed.train()

    saved = torch.load(f"{cfg.OUTPUT_DIR}/model_0000009.pth", weights_only=True)
    resumed, again = Trainer(cfg), Record()
    resumed.resume_or_load(resume=True)
    resumed.register_hooks([again, Kill(12)])
    assert resumed.start_iter == 10
    state = resumed.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved["model"].items())
    momentum = resumed.optimizer.state_dict()["state"]
    expected = saved["trainer"]["_trainer"]["optimizer"]["state"]
    assert momentum.keys() == expected.keys()
    for index, entry in expected.items():
        assert torch.equal(momentum[index]["momentum_buffer"], entry["momentum_buffer"])

    with pytest.raises(KeyboardInterrupt):
        resumed.train()
    assert list(again.progress) == [10, 11]
    assert again.progress == {i: record.progress[i] for i in (10, 11)} == {10: 0.5, 11: 0.55}
    assert again.lr == pytest.approx({i: record.lr[i] for i in (10, 11)})


@pytest.fixture
def signalled(a_run, monkeypatch):
    """Makes a trainer of 4 iterations that gets SIGTERM at an image of its evaluations.

    It has the number of images that it looked at, ``looks``.
    """

    def make(at, *, resume=False):
        opts = ("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 100, "TEST.EVAL_PERIOD", 2)
        trainer = Trainer(a_run(*opts).setup())
        trainer.resume_or_load(resume=resume)
        trainer.looks = 0

        def look(module, inputs):
            if not trainer.model.training:
                trainer.looks += 1
                if trainer.looks == at:
                    os.kill(os.getpid(), signal.SIGTERM)

        # Within the part that looks for signals: an image that has begun is finished.
        find_backbones(trainer.model)[0].register_forward_pre_hook(look)
        return trainer

    return make


def test_a_signal_ends_an_evaluation_with_a_checkpoint(signalled):
    trainer = signalled(at=2)
    with pytest.raises(Stopped) as stopped:
        trainer.train()
    assert stopped.value.code == 143 and trainer.looks == 2
    last = Path(trainer.cfg.OUTPUT_DIR, "model_0000001.pth")
    assert names(stopped.value.message, "SIGTERM", last, "--resume")
    assert not Path(trainer.cfg.OUTPUT_DIR, "results.json").exists()

    resumed = signalled(at=0, resume=True)
    assert resumed.start_iter == 2
    state = resumed.model.state_dict()
    assert all(torch.equal(state[key], one) for key, one in trainer.model.state_dict().items())
    resumed.train()
    assert resumed.looks == 4
    with torch.no_grad():  # and what was stopped is a model as any other
        trainer.model.eval()([{"image": torch.zeros(3, 64, 64)}])


def test_a_signal_in_the_last_evaluation_keeps_the_final_model(signalled):
    trainer = signalled(at=6)
    with pytest.raises(Stopped) as stopped:
        trainer.train()
    folder = Path(trainer.cfg.OUTPUT_DIR)
    assert trainer.looks == 6
    assert [path.name for path in folder.glob("*.pth")] == ["model_final.pth"]
    assert names(stopped.value.message, folder / "model_final.pth", "--resume")
    resumed = signalled(at=0, resume=True)
    resumed.train()
    assert resumed.looks == 4 and resumed.start_iter == 4


def test_resuming_a_finished_run_evaluates_it(trained, a_run, tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    for name in ("model_final.pth", "last_checkpoint"):
        (folder / name).write_bytes((trained / name).read_bytes())
    a_run(eval_only=True, resume=True).main()
    assert (folder / "test_results.json").exists()


def test_training_goes_on_from_a_backbone_alone(trained, tmp_path, config):
    weights = checkpoints.load(trained / "model_final.pth")["model"]
    prefix = "backbone.bottom_up.net."
    backbone = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    path = tmp_path / "backbone.pth"
    classifier = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    checkpoints.save(path, {**backbone, **classifier}, meta={})
    trainer = Trainer(config("MODEL.WEIGHTS", path))
    trainer.resume_or_load(resume=False)
    state = find_backbones(trainer.model)[0].state_dict()
    assert all(torch.equal(state[key], value) for key, value in backbone.items())


def test_training_goes_on_with_other_classes(trained, config, caplog, tiny):
    annotations = tiny / "instances.json"
    content = json.loads(annotations.read_text())
    content["categories"].append({"id": 3, "name": "blue"})
    annotations.write_text(json.dumps(content))
    path = trained / "model_final.pth"
    trainer = Trainer(config("MODEL.WEIGHTS", path, "MODEL.RETINANET.NUM_CLASSES", 3))
    logging.getLogger("dynbackbones").addHandler(caplog.handler)
    trainer.resume_or_load(resume=False)
    logging.getLogger("dynbackbones").removeHandler(caplog.handler)
    assert "head.cls_score.weight is (6, 16, 3, 3)" in caplog.text
    saved = checkpoints.load(path)["model"]
    state = trainer.model.state_dict()
    assert torch.equal(state["head.bbox_pred.weight"], saved["head.bbox_pred.weight"])


def test_selectors_get_their_own_learning_rate(config):
    trainer = Trainer(config("MODEL.SAR.SELECTOR_LR_FACTOR", 3.0))
    backbone = find_backbones(trainer.model)[0]
    selectors = {id(p) for p in backbone.own_parameters()["selector"]}
    base = trainer.cfg.SOLVER.BASE_LR
    seen = set()
    for group in trainer.optimizer.param_groups:
        for parameter in group["params"]:
            factor = 3 if id(parameter) in selectors else 1
            assert group["initial_lr"] == pytest.approx(base * factor)
            assert id(parameter) not in seen
            seen.add(id(parameter))
    assert seen == {id(p) for p in trainer.model.parameters() if p.requires_grad}


def test_results_without_detections_are_valid_json(tmp_path):
    write_results({"bbox": {"AP": float("nan")}, "backbone": {"macs": 2}}, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "bbox": {"AP": None},
        "backbone": {"macs": 2.0},
    }


def test_a_plain_baseline_trains_and_predicts(a_run, tmp_path):
    options = (
        *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
        *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
        *("MODEL.RESNETS.NORM", "BN", "SOLVER.MAX_ITER", 2),
    )
    a_run(*options).main()
    results = json.loads((tmp_path / "output" / "results.json").read_text())
    assert list(results["backbone"]) == ["gmacs"]
    weights = tmp_path / "output" / "model_final.pth"
    predictor = engine.load_predictor(a_run(*options, "MODEL.WEIGHTS", weights).setup())
    assert predictor.predict(np.zeros((64, 80, 3), dtype=np.uint8)).decisions is None


def test_every_process_imports_the_users_modules(config):
    work = (config(), Launch(imports=("absent_of_mine",)))
    with pytest.raises(
        ProcessRaisedException, match=naming("--import absent_of_mine", "no module absent_of_mine")
    ):
        launch(engine._run, 2, dist_url="auto", args=work)
