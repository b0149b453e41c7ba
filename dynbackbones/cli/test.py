"""``dynbackbones test``: mmengine's usual command line for testing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmengine.config import Config

from dynbackbones.cli import runner
from dynbackbones.cli.arguments import parse
from dynbackbones.errors import UserError
from dynbackbones.integrations.mmengine.per_image import PerImageHook
from dynbackbones.integrations.openmmlab import checks
from dynbackbones.integrations.openmmlab.datasets.class_checks import check_class_folders


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = runner.parser("Test a checkpoint with mmengine's Runner.")
    options.add_argument("checkpoint", help="file with the weights")
    options.add_argument(
        "--per-image",
        action="store_true",
        help="also write how images differ in what they are given: per_image.json, rates.png and, "
        "where blocks are dropped, policies.png",
    )
    options.add_argument("--tta", action="store_true", help="test-time augmentation")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Tests a checkpoint on a config's test set; metrics go to the work dir.

    Raises:
        UserError: the input is at fault.
    """
    args = parse(parser(), arguments)
    cfg = runner.read_config(args)
    if cfg.get("test_dataloader") is None:
        raise UserError(f"config {args.config} has no test_dataloader; there is nothing to test on")
    checks.check_datasets(cfg, ("test_dataloader",))
    check_class_folders(cfg, ("test_dataloader",))
    checks.check_model(cfg, args.checkpoint, whole=True)
    if args.tta:
        _use_tta(cfg)
    cfg.load_from = args.checkpoint
    with runner.process_group_left():
        built = runner.build_runner(cfg, args.verbose)
        per_image = PerImageHook()
        if args.per_image:
            built.register_hook(per_image)
        built.test()
        for line in per_image.lines:
            print(line)


def _use_tta(cfg: Config) -> None:
    for key in ("tta_model", "tta_pipeline"):
        if cfg.get(key) is None:
            raise UserError(f"--tta needs {key} in the config")
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model
