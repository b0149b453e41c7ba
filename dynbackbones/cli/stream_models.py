"""Trained models for commands that run them on video."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from dynbackbones import checkpoints
from dynbackbones.cli.engines import check_installed, open_engine
from dynbackbones.cli.visualize import use_trained_weights
from dynbackbones.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from dynbackbones.integrations.engine import Engine


def load_detector(args: argparse.Namespace) -> tuple[Engine, CfgNode]:
    """The engine of a YAML config, and the config with its trained weights.

    Args:
        args: with ``config_file``, ``engine``, ``weights`` and ``opts``.

    Raises:
        UserError: the config or the weights are at fault.
    """
    opts = [*args.opts, *(["MODEL.WEIGHTS", args.weights] if args.weights else [])]
    named = argparse.Namespace(**{**vars(args), "opts": opts})
    _, engine, cfg = open_engine(
        args.engine, args.config_file, opts, lambda cfg: use_trained_weights(cfg, named)
    )
    use_trained_weights(cfg, named)
    return engine, cfg


def load_segmentor(
    config_file: str, weights: str | None, assignments: Sequence[str] = ()
) -> nn.Module:
    """An mmseg model with its weights and its config, as ``init_model`` returns it.

    Args:
        config_file: a Python config.
        weights: a file.
        assignments: ``KEY=VALUE`` in the place of the config's.

    Raises:
        UserError: the config is another library's, or the weights are missing or do not fit.
    """
    check_installed("openmmlab")
    from dynbackbones.integrations.openmmlab import checks

    if weights is None:
        raise UserError(f"--config-file {config_file}: give the model's --weights")
    cfg = checks.load_config(config_file)
    try:
        cfg.merge_from_dict(dict(map(_assignment, assignments)))
    except (KeyError, TypeError) as error:
        raise UserError(f"{error.args[0]} does not fit {config_file}") from error
    if cfg.get("default_scope") != "mmseg":
        raise UserError(
            f"--config-file {config_file} is of {cfg.get('default_scope')}, and a segmentor of "
            "mmseg, or a detector's YAML, is wanted"
        )
    model = checks.build_model(cfg)
    content = checkpoints.load(weights)
    state = checkpoints.state_dict_of(content, weights)
    checkpoints.check_architecture(model.state_dict(), state, weights)
    model.load_state_dict(state)
    model.cfg, model.dataset_meta = cfg, (content.get("meta") or {}).get("dataset_meta")
    return model.eval()


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"{text}: overrides of a Python config are KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value
