import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.config import Config

from dynbackbones.cli import blockdrop_table
from dynbackbones.cli.train import main as train_command
from dynbackbones.errors import UserError
from dynbackbones.experiments import policy_evaluation as evaluation
from dynbackbones.experiments.cells import train_in_a_process
from dynbackbones.experiments.policy_evaluation import Split, compare_policies
from dynbackbones.experiments.policy_table import PolicyTable
from dynbackbones.experiments.table import Table
from tests.messages import naming

CONFIGS = Path(__file__).parents[2] / "configs" / "pretrain"
BLOCKS = 9


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        pixels = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=pixels, labels=rng.integers(0, 10, 16))
    return folder


@pytest.fixture(scope="module")
def configs(images, tmp_path_factory):
    """The small configs, smaller still: stage to file."""
    folder = tmp_path_factory.mktemp("configs")
    files = {}
    for stage in ("1-plain", "2-curriculum", "3-joint"):
        cfg = Config.fromfile(CONFIGS / f"blockdrop_resnet20_cifar10-small_{stage}.py")
        cfg.train_dataloader.dataset.dataset.data_root = str(images)
        for dataset in (cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
            dataset.data_root = str(images)
        cfg.calibration_dataset.update(data_root=str(images), indices=-4)
        cfg.train_dataloader.batch_size = 8
        cfg.train_cfg.update(max_iters=1, val_interval=1)
        cfg.vis_backends = cfg.visualizer.vis_backends = []
        path = folder / f"{stage}.py"
        cfg.dump(path)
        files[cfg.model.stage] = str(path)
    return files


@pytest.fixture
def trainer():
    """Trains in this process, and remembers the folders."""

    def train(config, arguments, folder):
        train.folders.append(folder.name)
        train_command([config, *arguments])

    train.folders = []
    return train


def test_cells_are_made_once_and_make_a_table(configs, tmp_path, trainer):
    cells = Table(tmp_path, trainer)
    table = PolicyTable(configs, cells)
    results = {0: table.run_seed(0)}
    table.write(results)
    assert trainer.folders == ["plain", "curriculum", "joint"]

    again = PolicyTable(configs, cells, finetune=("distributed", "best"))
    results = {0: again.run_seed(0)}
    again.write(results)
    assert trainer.folders[3:] == ["finetuned-distributed", "finetuned-best"]

    content = json.loads((tmp_path / "table.json").read_text())
    joint = content["seeds"]["0"]["networks"]["joint"]
    assert set(joint) == {"full", "learned", "first", "random", "distributed", "best"}
    assert 0 <= joint["best"]["finetuned"]["accuracy"] <= 100
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert sum(line.startswith("| learned |") for line in lines) == 2
    assert sum("network fine-tuned with it" in line for line in lines) == 2

    with pytest.raises(UserError, match=naming("plain", "settings", "--work-dir")):
        PolicyTable(configs, cells, ["model.gamma=3"]).run_seed(0)


def test_a_failed_training_says_why_and_where_to_look(tmp_path):
    words = (tmp_path, "exit code 2", tmp_path / "absent.py", tmp_path / "output.txt")
    with pytest.raises(UserError, match=naming(*words)):
        train_in_a_process(str(tmp_path / "absent.py"), [], tmp_path)
    assert "absent.py does not exist" in (tmp_path / "output.txt").read_text()


def test_a_config_without_calibration_images_is_refused(configs, tmp_path):
    cfg = Config.fromfile(configs["joint"])
    cfg.pop("calibration_dataset")
    cfg.dump(tmp_path / "joint.py")
    with pytest.raises(UserError, match=naming(tmp_path / "joint.py", "calibration_dataset")):
        PolicyTable({**configs, "joint": str(tmp_path / "joint.py")}, Table(tmp_path))


class Toy:
    """A classifier of two blocks: right for labels 0 always, for 1 only with the second block."""

    def __init__(self, policies):
        self.backbone = self
        self.num_blocks, self.block_counts = 2, [1, 1]
        self.policies = policies
        self.memory_format = torch.contiguous_format
        self.decisions = None

    def data_preprocessor(self, data):
        return {"inputs": data["inputs"].float()}

    def scores(self, images, actions):
        self.decisions = type("D", (), {"policy": actions, "macs": 1e9 * actions.sum(dim=1)})
        labels = images[:, 0, 0, 0].long()
        right = (labels == 0) | actions[:, 1].bool()
        return torch.nn.functional.one_hot(torch.where(right, labels, 1 - labels), 2)

    def extract_feat(self, images):
        return self.scores(images, self.policies)

    def head(self, features):
        return features


def test_fixed_policies_have_the_learned_ones_usage():
    labels = torch.tensor([0, 0, 0, 1])
    split = Split(labels.view(-1, 1, 1, 1).expand(4, 3, 1, 1), labels)
    learned = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 1]]).bool()
    result = compare_policies(Toy(learned), split, split)
    assert result["learned"]["accuracy"] == 100
    assert result["learned"]["mean_actions"] == 0.25
    assert result["full"] == {"accuracy": 100, "gmacs": 2, "policy": [1, 1]}
    # A quarter of the images with one block, the others with none.
    best = result["best"]
    assert best["up"]["policy"] == [0, 1] and best["up"]["accuracy"] == 100
    assert best["down"]["accuracy"] == 75
    assert best["accuracy"] == pytest.approx(0.25 * 100 + 0.75 * 75)
    assert best["gmacs"] == pytest.approx(0.25) and best["blocks"] == 0.25
    assert result["first"]["up"]["accuracy"] == 75
    assert 75 <= result["random"]["up"]["accuracy"] <= 100


def test_whole_numbers_of_blocks_are_met_exactly():
    labels = torch.tensor([0, 1])
    split = Split(labels.view(-1, 1, 1, 1).expand(2, 3, 1, 1), labels)
    result = compare_policies(Toy(torch.tensor([[1, 0], [0, 1]]).bool()), split, split)
    for kind in (*evaluation.PATTERNS, evaluation.SEARCHED):
        assert result[kind]["up"]["blocks"] == result[kind]["down"]["blocks"] == 1
        assert result[kind]["accuracy"] == result[kind]["up"]["accuracy"]


def test_the_command_line_names_what_it_needs(capsys):
    with pytest.raises(SystemExit):
        blockdrop_table.main(["--work-dir", "x"])
    assert "--configs" in capsys.readouterr().err
