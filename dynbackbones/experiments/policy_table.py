"""BlockDrop's table on a classification dataset: three stages, baselines, several seeds.

The work is divided into cells, one for each seed and step; a finished cell is not run again, and
an unfinished training continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config, DictAction

from dynbackbones.errors import UserError
from dynbackbones.experiments.cells import made_once
from dynbackbones.experiments.policy_evaluation import (
    PATTERNS,
    SEARCHED,
    compare_policies,
    load_classifier,
    load_split,
)
from dynbackbones.experiments.table import Table, heading, row, spread
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.blockdrop_classifier.classifier import (
    CURRICULUM,
    JOINT,
    PLAIN,
    STAGES,
)

NAMES = {
    "first": "first k",
    "random": "random k",
    "distributed": "distributed k",
    SEARCHED: "best fixed",
}
"""Fixed policies, as the table calls them."""
_COLUMNS = (
    "policy",
    "accuracy, %",
    "learned minus it",
    "blocks",
    "accuracy, blocks rounded up",
    "10^6 MACs",
)


@dataclass(frozen=True)
class PolicyTable:
    """What the cells of a table are trained and evaluated as.

    Attributes:
        configs: stage to config file.
        table: where the cells are.
        cfg_options: KEY=VALUE overrides of all configs.
        finetune: names of the fixed policies that the plain network is also fine-tuned with.

    Raises:
        UserError: a config is missing, or the last one has no images to calibrate on.
    """

    configs: Mapping[str, str]
    table: Table
    cfg_options: Sequence[str] = ()
    finetune: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self._config(JOINT, self.cfg_options).get("calibration_dataset") is None:
            raise UserError(
                f"config {self.configs[JOINT]} has no calibration_dataset (a part of the training "
                "images), which the best fixed policy is searched on; add it"
            )

    def fill(self, seeds: Sequence[int]) -> None:
        """Makes the cells that are not there yet, and writes the table after each seed.

        Raises:
            UserError: a training failed.
        """
        results = {}
        for seed in seeds:
            results[seed] = self.run_seed(seed)
            self.write(results)

    def run_seed(self, seed: int) -> dict[str, Any]:
        """All cells of a seed: what `compare_policies` returns for two networks, and times."""
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
        options = [*self.cfg_options, *options, f"randomness.seed={seed}"]
        cfg, source = self._config(stage, options), (self.configs[stage], options)
        return self.table.trained(seed, name, cfg, source, f"seed {seed}: {name}")

    def _evaluate(self, seed: int, cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
        cfg = self._config(JOINT, self.cfg_options)

        def make() -> dict[str, Any]:
            val = load_split(cfg.test_dataloader.dataset)
            calibration = load_split(cfg.calibration_dataset)
            networks, num_blocks = {}, 0
            for stage in (CURRICULUM, JOINT):
                model = load_classifier(cfg, cells[stage]["checkpoint"])
                networks[stage] = compare_policies(model, val, calibration)
                num_blocks = model.backbone.num_blocks
            return {"networks": networks, "num_blocks": num_blocks}

        folder = self.table.folder(seed, "evaluation")
        return made_once(folder, cfg, make, f"seed {seed}: evaluation")

    def _config(self, stage: str, options: Sequence[str]) -> Config:
        cfg = checks.load_config(self.configs[stage])
        parser = argparse.ArgumentParser()
        parser.add_argument("--options", nargs="*", action=DictAction)
        cfg.merge_from_dict(parser.parse_args(["--options", *options]).options or {})
        return cfg

    def write(self, results: dict[int, dict[str, Any]]) -> None:
        """Writes what there is so far."""
        content = {
            "configs": dict(self.configs),
            "cfg_options": list(self.cfg_options),
            "seeds": results,
        }
        self.table.write(content, _markdown(results))


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
        yield from heading(_COLUMNS)
        learned = [network["learned"] for network in networks]
        full = [network["full"] for network in networks]
        yield _row("all blocks", full, learned, [run["num_blocks"] for run in runs])
        yield _row("learned", learned, None, [entry["mean_actions"] for entry in learned])
        for kind in (*PATTERNS, SEARCHED):
            fixed = [network[kind] for network in networks]
            up = spread([entry["up"]["accuracy"] for entry in fixed])
            yield _row(NAMES[kind], fixed, learned, [entry["blocks"] for entry in fixed], up)
        for kind in (*PATTERNS, SEARCHED):
            tuned = [network[kind].get("finetuned") for network in networks]
            if all(tuned):
                name = f"{NAMES[kind]}, network fine-tuned with it"
                yield _row(name, tuned, learned, [entry["blocks"] for entry in tuned])
        yield ""
        yield from heading(["learned policy", *(f"seed {seed}" for seed in results)])
        for label, key in (
            ("blocks, standard deviation over images", "std_actions"),
            ("fewest blocks of an image", "min_actions"),
            ("most blocks of an image", "max_actions"),
            ("distinct policies", "distinct_policies"),
            ("share of the most frequent", "largest_policy_share"),
            ("entropy of the policies, bits", "policy_entropy_bits"),
        ):
            yield row([label, *(f"{round(entry[key], 6):.3g}" for entry in learned)])
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
    return row([name, spread(accuracies), gain, spread(blocks, 2), up, macs])


def _gmacs(metrics: Mapping[str, float]) -> float:
    # Cells of before 0.2 have the other name.
    return metrics["policy/gmacs" if "policy/gmacs" in metrics else "policy/mean_gmacs"]
