import json

import pytest

pytest.importorskip("mmengine")

from mmengine.config import Config

from dynbackbones.cli.compare import main
from dynbackbones.errors import UserError
from dynbackbones.experiments.comparison import Comparison
from dynbackbones.experiments.table import Table
from tests.messages import naming

CONFIG = """
model = dict(depth=20, cells=(8, 4, 4))
randomness = dict(seed=0)
variants = {"first": {}, "second, deeper": {"model.depth": 32, "model.cells": (4, 2, 1)}}
variant_metrics = ["accuracy", "gmacs"]
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def trainer():
    """Writes results that depend on depth and seed; remembers the configs it saw."""

    def train(path, arguments, folder):
        cfg = Config.fromfile(path)
        train.configs.append(cfg)
        assert arguments == ["--work-dir", str(folder), "--resume"]
        depth, seed = cfg.model.depth, cfg.randomness.seed
        results = {"accuracy": depth + 3 * seed**2, "other": 1}
        results |= {"gmacs": 0.5} if depth == 20 else {}
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "last_checkpoint").write_text("iter_1.pth")

    train.configs = []
    return train


def comparison(config, tmp_path, trainer, options=()):
    return Comparison.from_file(config, dict(options), Table(tmp_path / "cells", trainer))


def test_each_cell_trains_its_variant_and_seed(config, tmp_path, trainer):
    cells = comparison(config, tmp_path, trainer, {"model.width": 2})
    assert cells.run("second, deeper", 3)["metrics"]["accuracy"] == 32 + 27
    (seen,) = trainer.configs
    assert (seen.model.depth, seen.model.cells, seen.model.width) == (32, (4, 2, 1), 2)
    assert seen.randomness.seed == 3
    assert "variants" not in seen and "variant_metrics" not in seen


def test_a_variant_that_replaces_a_part_does_so_for_every_seed(config, tmp_path, trainer):
    cells = comparison(config, tmp_path, trainer)
    cells.variants["other"] = Config({"model": {"_delete_": True, "depth": 56}})
    for seed in (0, 1):
        cells.run("other", seed)
        assert dict(trainer.configs[-1].model) == {"depth": 56}


def test_finished_cells_are_not_trained_again_nor_mixed_up(config, tmp_path, trainer):
    first = comparison(config, tmp_path, trainer).run("first", 0)
    assert comparison(config, tmp_path, trainer).run("first", 0) == first
    assert len(trainer.configs) == 1
    other = comparison(config, tmp_path, trainer, {"model.depth": 56})
    with pytest.raises(
        UserError, match=naming(tmp_path / "cells/seed0/first", "settings", "--work-dir")
    ):
        other.run("first", 0)


def test_the_table_pairs_differences_by_seed(config, tmp_path, trainer):
    cells = comparison(config, tmp_path, trainer)
    results = {name: {seed: cells.run(name, seed) for seed in (0, 1)} for name in cells.variants}
    cells.write(results)
    rows = (tmp_path / "cells" / "table.md").read_text().splitlines()
    # 20 and 23; 32 and 35: the seeds spread, the difference does not.
    assert rows[2].startswith("| first | 21.50 ± 2.12 | 0.5000 ± 0.0000 |  | 2 |")
    assert rows[3] == "| second, deeper | 33.50 ± 2.12 |  | 12.00 ± 0.00 | 2 |"
    table = json.loads((tmp_path / "cells" / "table.json").read_text())
    assert table["results"]["first"]["1"]["metrics"]["accuracy"] == 23


@pytest.mark.parametrize("key", ["variants", "variant_metrics"])
def test_a_config_without_variants_is_refused(tmp_path, key):
    path = tmp_path / "config.py"
    lines = CONFIG.splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(f"{key} ")))
    with pytest.raises(UserError, match=naming(path, "no " + key)):
        Comparison.from_file(path, {}, Table(tmp_path))


def test_one_value_has_no_deviation(config, tmp_path, trainer):
    cells = comparison(config, tmp_path, trainer)
    cells.write({name: {0: cells.run(name, 0)} for name in cells.variants})
    rows = (tmp_path / "cells" / "table.md").read_text().splitlines()
    assert rows[2] == "| first | 20.00 | 0.5000 |  | 1 |"
    assert rows[3] == "| second, deeper | 32.00 |  | 12.00 | 1 |"


def test_what_a_later_cell_lacks_is_found_before_the_first_is_trained(config, tmp_path):
    changes = '"first": {}, "late": {"load_from": "absent.pth"}'
    config.write_text(config.read_text().replace('"first": {}', changes))
    with pytest.raises(UserError, match=naming("'late'", "load_from=absent.pth")):
        main([str(config), "--work-dir", str(tmp_path / "w")])
    hook = "dict(type='DCANHook', generator=dict(encoder='small_vgg', weights='gone.pth'))"
    imports = "custom_imports = dict(imports=['dynbackbones.integrations.openmmlab'])"
    config.write_text(f"{imports}\ncustom_hooks = [{hook}]\n{CONFIG}")
    with pytest.raises(UserError, match=naming("gone.pth")):
        main([str(config), "--work-dir", str(tmp_path / "w")])
    assert not (tmp_path / "w").exists()


def test_a_finished_table_needs_nothing_of_what_it_was_made_from(config, tmp_path, trainer, capsys):
    config.write_text(config.read_text().replace('"first": {}', '"first": {"load_from": "a.pth"}'))
    comparison(config, tmp_path, trainer).run("first", 0)
    arguments = [str(config), "--work-dir", str(tmp_path / "cells"), "--variants", "first"]
    main([*arguments, "--seeds", "0"])
    assert "| first | 20.00 |" in capsys.readouterr().out
    with pytest.raises(UserError, match=naming("'first'", "load_from=a.pth")):
        main([*arguments, "--seeds", "0", "1"])


def test_modules_of_the_users_are_named_to_each_training(config, tmp_path):
    class Seen(Exception):
        pass

    def train(path, arguments, folder):
        raise Seen(arguments)

    table = Table(tmp_path / "cells", train, imports=["mine", "other.module"])
    with pytest.raises(Seen) as seen:
        Comparison.from_file(config, {}, table).run("first", 0)
    arguments = seen.value.args[0]
    assert arguments[3:] == ["--import", "mine", "--import", "other.module"]


def test_a_seed_is_trained_once(config, tmp_path):
    with pytest.raises(UserError, match=naming("--seeds", [0, 1, 0])):
        main([str(config), "--work-dir", str(tmp_path / "w"), "--seeds", "0", "1", "0"])


def test_an_unknown_variant_is_refused_before_anything_is_trained(config, tmp_path):
    with pytest.raises(UserError, match=naming("'third'", "first, second, deeper")):
        main([str(config), "--work-dir", str(tmp_path / "w"), "--variants", "first", "third"])
    assert not (tmp_path / "w").exists()
