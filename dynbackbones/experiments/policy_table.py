"""BlockDrop's table on a classification dataset: three stages, baselines, several seeds.

The work is divided into cells, one for each seed and step; a finished cell is not run again, and
an unfinished training continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from dynbackbones.errors import UserError
from dynbackbones.experiments.cells import (
    made_once,
    spread,
    train_in_a_process,
    trained_results,
)
from dynbackbones.experiments.policy_evaluation import (
    PATTERNS,
    SEARCHED,
    compare,
    load_classifier,
    load_split,
)
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.blockdrop_classifier.classifier import (
    CURRICULUM,
    JOINT,
    PLAIN,
    STAGES,
)

_NAMES = {
    "first": "first k",
    "random": "random k",
    "distributed": "distributed k",
    SEARCHED: "best fixed",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills the table's cells and writes ``table.json`` and ``table.md`` into the work dir.

    Raises:
        UserError: the input is at fault, or a training failed.
    """
    args = _parser().parse_args(arguments)
    table = Table(
        dict(zip(STAGES, args.configs, strict=True)),
        Path(args.work_dir),
        args.cfg_options or [],
        tuple(args.finetune),
    )
    results = {}
    for seed in args.seeds:
        results[seed] = table.run_seed(seed)
        table.write(results)
    print((table.work_dir / "table.md").read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train BlockDrop's three stages with several seeds, and compare its policies "
        "with fixed ones."
    )
    parser.add_argument(
        "--configs", nargs=3, required=True, metavar=("PLAIN", "CURRICULUM", "JOINT")
    )
    parser.add_argument("--work-dir", required=True, metavar="FOLDER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--finetune",
        nargs="*",
        default=[],
        choices=tuple(_NAMES),
        help="fixed policies to train the plain network with as long as the third stage takes",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", metavar="KEY=VALUE", help="overrides of all three configs"
    )
    return parser


@dataclass(frozen=True)
class Table:
    """Where the cells are, and how they are made.

    Attributes:
        configs: stage to config file.
        work_dir: of all cells.
        cfg_options: KEY=VALUE overrides of all configs.
        finetune: names of the fixed policies that the plain network is also fine-tuned with.
        train: what trains a cell; see `train_in_a_process`.

    Raises:
        UserError: a config is missing, or the last one has no images to calibrate on.
    """

    configs: dict[str, str]
    work_dir: Path
    cfg_options: list[str]
    finetune: tuple[str, ...] = ()
    train: Callable[[str, Sequence[str], Path], None] = train_in_a_process

    def __post_init__(self) -> None:
        if self._config(JOINT, self.cfg_options).get("calibration_dataset") is None:
            raise UserError(
                f"config {self.configs[JOINT]} has no calibration_dataset (a part of the training "
                "images), which the best fixed policy is searched on; add it"
            )

    def run_seed(self, seed: int) -> dict[str, Any]:
        """All cells of a seed: what `compare` returns for two networks, and times."""
        cells = {}
        before = None
        for stage in STAGES:
            start = [f"load_from={before}"] if before else []
            cells[stage] = self._train(seed, stage, stage, start)
            before = cells[stage]["checkpoint"]
        result = self._evaluate(seed, cells)
        joint = result["networks"][JOINT]
        for kind in self.finetune:
            fixed = joint[kind]["up"]
            selection = fixed["policy"] if kind == SEARCHED else kind
            cell = self._train(
                seed,
                JOINT,
                f"finetuned-{kind}",
                [
                    f"load_from={cells[PLAIN]['checkpoint']}",
                    f"model.stage={PLAIN}",
                    f"model.selection={selection}".replace(" ", ""),
                    f"model.selection_rate={fixed['blocks'] / result['num_blocks']}",
                ],
            )
            joint[kind]["finetuned"] = {
                "accuracy": cell["metrics"]["accuracy/top1"],
                "gmacs": _gmacs(cell["metrics"]),
                "blocks": fixed["blocks"],
            }
            cells[f"finetuned-{kind}"] = cell
        seconds = {name: cell["cpu_seconds"] for name, cell in cells.items()}
        return {**result, "cpu_seconds": {**seconds, "evaluation": result["cpu_seconds"]}}

    def _train(self, seed: int, stage: str, name: str, options: list[str]) -> dict[str, Any]:
        folder = self.work_dir / f"seed{seed}" / name
        options = [*self.cfg_options, *options, f"randomness.seed={seed}"]

        def make() -> dict[str, Any]:
            arguments = ["--work-dir", os.fspath(folder), "--resume", "--cfg-options", *options]
            self.train(self.configs[stage], arguments, folder)
            return trained_results(folder)

        return made_once(folder, self._config(stage, options), make, f"seed {seed}: {name}")

    def _evaluate(self, seed: int, cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
        folder = self.work_dir / f"seed{seed}" / "evaluation"
        cfg = self._config(JOINT, self.cfg_options)

        def make() -> dict[str, Any]:
            val = load_split(cfg.test_dataloader.dataset)
            calibration = load_split(cfg.calibration_dataset)
            networks, num_blocks = {}, 0
            for stage in (CURRICULUM, JOINT):
                model = load_classifier(cfg, cells[stage]["checkpoint"])
                networks[stage] = compare(model, val, calibration)
                num_blocks = model.backbone.num_blocks
            return {"networks": networks, "num_blocks": num_blocks}

        return made_once(folder, cfg, make, f"seed {seed}: evaluation")

    def _config(self, stage: str, options: list[str]) -> Config:
        cfg = checks.load_config(self.configs[stage])
        parser = argparse.ArgumentParser()
        parser.add_argument("--options", nargs="*", action=DictAction)
        cfg.merge_from_dict(parser.parse_args(["--options", *options]).options or {})
        return cfg

    def write(self, results: dict[int, dict[str, Any]]) -> None:
        """Writes what there is so far."""
        content = {"configs": self.configs, "cfg_options": self.cfg_options, "seeds": results}
        (self.work_dir / "table.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.work_dir / "table.md").write_text("\n".join(_markdown(results)) + "\n")


def _markdown(results: dict[int, dict[str, Any]]) -> Iterator[str]:
    """A table for each network; mean and standard deviation over the seeds."""
    runs = list(results.values())
    titles = {
        CURRICULUM: "Plain network, policy after the curriculum",
        JOINT: "Both after joint fine-tuning",
    }
    for stage, title in titles.items():
        networks = [run["networks"][stage] for run in runs]
        yield f"### {title}"
        yield ""
        yield (
            "| policy | accuracy, % | learned minus it | blocks | accuracy, blocks rounded up | "
            "10^6 MACs |"
        )
        yield "|---|---|---|---|---|---|"
        learned = [network["learned"] for network in networks]
        full = [network["full"] for network in networks]
        yield _row("all blocks", full, learned, [run["num_blocks"] for run in runs])
        yield _row("learned", learned, None, [entry["mean_actions"] for entry in learned])
        for kind in (*PATTERNS, SEARCHED):
            fixed = [network[kind] for network in networks]
            up = spread([entry["up"]["accuracy"] for entry in fixed])
            yield _row(_NAMES[kind], fixed, learned, [entry["blocks"] for entry in fixed], up)
        for kind in (*PATTERNS, SEARCHED):
            tuned = [network[kind].get("finetuned") for network in networks]
            if all(tuned):
                name = f"{_NAMES[kind]}, network fine-tuned with it"
                yield _row(name, tuned, learned, [entry["blocks"] for entry in tuned])
        yield ""
        yield "| learned policy | " + " | ".join(f"seed {seed}" for seed in results) + " |"
        yield "|---" * (len(runs) + 1) + "|"
        for label, key in (
            ("blocks, standard deviation over images", "std_actions"),
            ("fewest blocks of an image", "min_actions"),
            ("most blocks of an image", "max_actions"),
            ("distinct policies", "distinct_policies"),
            ("share of the most frequent", "largest_policy_share"),
            ("entropy of the policies, bits", "policy_entropy_bits"),
        ):
            values = (f"{round(entry[key], 6):.3g}" for entry in learned)
            yield f"| {label} | {' | '.join(values)} |"
        yield ""
    total = sum(sum(run["cpu_seconds"].values()) for run in runs)
    yield f"{len(runs)} seeds, {total / 60:.0f} minutes of processor time."


def _row(
    name: str, entries: list[dict], learned: list[dict] | None, blocks: list[float], up: str = ""
) -> str:
    accuracies = [entry["accuracy"] for entry in entries]
    macs = spread([1e3 * entry["gmacs"] for entry in entries])
    gain = ""
    if learned is not None:
        pairs = zip(learned, accuracies, strict=True)
        gain = spread([entry["accuracy"] - accuracy for entry, accuracy in pairs])
    return f"| {name} | {spread(accuracies)} | {gain} | {spread(blocks, 2)} | {up} | {macs} |"


def _gmacs(metrics: Mapping[str, float]) -> float:
    # Cells of before 0.2 have the other name.
    return metrics["policy/gmacs" if "policy/gmacs" in metrics else "policy/mean_gmacs"]
