"""A trained model from the config and the weights that a command is given."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynbackbones import checkpoints
from dynbackbones.cli.engines import check_installed, open_engine
from dynbackbones.errors import UserError
from dynbackbones.training.run_folder import FINAL_WEIGHTS

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode
    from torch import nn

    from dynbackbones.analysis.survey import Predictor
    from dynbackbones.integrations.engine import Engine


def is_yaml(args: argparse.Namespace) -> bool:
    """Whether there is a config, and it is a detector's rather than mmengine's."""
    return args.config_file is not None and Path(args.config_file).suffix != ".py"


def refuse_overrides(args: argparse.Namespace) -> None:
    """Makes sure that ``KEY VALUE`` are given for a YAML config alone.

    Raises:
        UserError: they are not.
    """
    if args.opts and not is_yaml(args):
        raise UserError(f"{' '.join(args.opts)}: overrides are for a YAML --config-file")


def use_trained_weights(cfg: CfgNode, args: argparse.Namespace) -> str:
    """Points a config at the run's own model unless the command line names another one.

    MODEL.WEIGHTS of the YAML is what training starts from, so it does not count.

    Returns:
        ``MODEL.WEIGHTS``.

    Raises:
        UserError: there is no such model.
    """
    if "MODEL.WEIGHTS" in args.opts[::2]:
        return cfg.MODEL.WEIGHTS
    remedy = "name a model at the end of the command: MODEL.WEIGHTS FILE"
    return use_own_weights(cfg, args.config_file, remedy)


def use_own_weights(cfg: CfgNode, config_file: str, remedy: str) -> str:
    """Points a config at the model that the run in its ``OUTPUT_DIR`` ended with.

    Args:
        cfg: changed in place.
        config_file: where it is from.
        remedy: what else a command line could say.

    Returns:
        ``MODEL.WEIGHTS``.

    Raises:
        UserError: there is no such model.
    """
    weights = Path(cfg.OUTPUT_DIR) / FINAL_WEIGHTS
    if not weights.is_file():
        raise UserError(
            f"{weights} does not exist: train it with dynbackbones train-net --config-file "
            f"{config_file}, or {remedy}"
        )
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(weights)
    cfg.freeze()
    return cfg.MODEL.WEIGHTS


def open_trained(args: argparse.Namespace) -> tuple[str, Engine, CfgNode]:
    """The engine of a trained detector, and its config, which names its weights.

    Args:
        args: ``engine``, ``config_file``, ``opts``.

    Raises:
        UserError: the config is wrong, or the weights are missing.
    """
    engine, adapter, cfg = open_engine(
        args.engine, args.config_file, args.opts, lambda cfg: use_trained_weights(cfg, args)
    )
    use_trained_weights(cfg, args)
    return engine, adapter, cfg


def open_detector(args: argparse.Namespace) -> tuple[str, CfgNode, Predictor]:
    """The detector of a YAML config, by either engine.

    Args:
        args: ``engine``, ``config_file``, ``weights``, ``opts``.

    Returns:
        The engine's name, the config, and what runs on single images.

    Raises:
        UserError: the config is wrong, or the weights are missing or do not fit.
    """
    if args.weights:
        args.opts += ["MODEL.WEIGHTS", args.weights]
    engine, adapter, cfg = open_trained(args)
    return engine, cfg, adapter.load_predictor(cfg)


def open_mmengine_model(
    args: argparse.Namespace, assignments: Sequence[str] = ()
) -> tuple[Any, nn.Module, dict[str, Any]]:
    """The model of a config of mmengine's.

    Args:
        args: ``config_file`` and ``weights``.
        assignments: ``KEY=VALUE`` in the place of the config's.

    Returns:
        The config, the model with its weights, and what the file of these holds.

    Raises:
        UserError: the config is wrong, or the weights are missing or do not fit.
    """
    check_installed("openmmlab")
    from dynbackbones.integrations.mmengine.console import quiet_imports
    from dynbackbones.integrations.openmmlab import checks

    if args.weights is None:
        raise UserError(f"--config-file {args.config_file}: give the model's --weights")
    with quiet_imports():
        cfg = checks.load_config(args.config_file)
    try:
        cfg.merge_from_dict(dict(map(_assignment, assignments)))
    except (KeyError, TypeError) as error:
        raise UserError(f"{error.args[0]} does not fit {args.config_file}") from error
    model = checks.build_model(cfg)
    content = checkpoints.load(args.weights)
    state = checkpoints.state_dict_of(content, args.weights)
    checkpoints.check_architecture(model.state_dict(), state, args.weights)
    model.load_state_dict(state)
    return cfg, model, content


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"{text}: overrides of a Python config are KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value
