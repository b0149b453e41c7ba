from pathlib import Path

import pytest
import torch

from dynbackbones.demo import digits

CONFIGS = Path(__file__).parents[3] / "configs" / "demo"


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory):
    """A folder of datasets with a demo dataset of a few images."""
    root = tmp_path_factory.mktemp("datasets")
    digits.write_digits(root, num_train=12, num_val=4)
    return root


@pytest.fixture(autouse=True)
def one_thread():
    """Threads would not make networks this small faster, and wait for each other when busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def datasets(digits_root, monkeypatch):
    """`digits_root` as the folder where datasets are looked for."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(digits_root))
    return digits_root


@pytest.fixture
def command(tmp_path):
    """Makes the command line of a run of seconds, with its output in `tmp_path / "out"`."""

    def make(config="sar_retinanet_scratch", flags=(), options=()):
        tiny = {
            "INPUT.MIN_SIZE_TRAIN": "(48,64)",
            "INPUT.MIN_SIZE_TEST": "64",
            "INPUT.RANDOM_FLIP": "horizontal",
            "MODEL.FPN.OUT_CHANNELS": "32",
            "SOLVER.IMS_PER_BATCH": "2",
            "SOLVER.MAX_ITER": "6",
            "SOLVER.CHECKPOINT_PERIOD": "3",
            "DATALOADER.NUM_WORKERS": "0",
            "OUTPUT_DIR": str(tmp_path / "out"),
        }
        tiny.update(options)
        words = [word for pair in tiny.items() for word in pair]
        config_file = str(CONFIGS / f"{config}.yaml")
        return ["--engine", "torchvision", *flags, "--config-file", config_file, *words]

    return make


@pytest.fixture
def tiny_config(command):
    """Makes the config of such a run."""
    from dynbackbones.cli import train_net
    from dynbackbones.integrations.torchvision.config import load_config

    def make(config="sar_retinanet_scratch", **options):
        options = {key.replace("__", "."): value for key, value in options.items()}
        args = train_net.parser().parse_args(command(config, options=options))
        return load_config(args.config_file, args.opts)

    return make
