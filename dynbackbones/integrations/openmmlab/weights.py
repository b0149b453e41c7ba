"""Weights for OpenMMLab's models: what ``init_cfg`` names, and what mmengine loads unchecked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mmengine.logging import print_log
from torch import Tensor, nn

from dynbackbones import checkpoints
from dynbackbones.backbones import Backbone
from dynbackbones.errors import UserError


def load_pretrained(backbone: Backbone, source: str, prefix: str | None = None) -> None:
    """Loads weights that must fit a backbone exactly; says what else of the file is left out.

    Args:
        backbone: to be filled.
        source: a file, a URL, or ``torchvision://`` and the name of one of its models.
        prefix: of the backbone's keys in a file that holds more, such as ``"backbone."``.

    Raises:
        UserError: there is no such file, or its weights are not this network's.
    """
    state = checkpoints.read_weights(source)
    if prefix is None and any(key.startswith("backbone.") for key in state):
        raise UserError(
            f"checkpoint {source} holds a whole model; add prefix='backbone.' to init_cfg"
        )
    report = checkpoints.load_state(backbone, state, source, prefix=prefix or "")
    print_log(f"{type(backbone).__name__}: {report}", logger="current")


def refuse_other_networks(
    model: nn.Module,
    state: Mapping[str, Tensor],
    prefix: str,
    title: str,
    optional: Collection[str] = (),
) -> None:
    """For state-dict pre-hooks: mmengine only warns of weights that do not fit, and goes on.

    Raises:
        UserError: weights are missing, but for those that are ``optional``, or do not fit.
    """
    below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    checkpoints.check_architecture(model.state_dict(), below, f"for {title}", optional=optional)


def check_backbones(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Makes sure that weights of a whole model fit its backbones, which mmengine does not.

    The heads may differ: their numbers of classes do, from dataset to dataset.

    Args:
        model: to be filled.
        state: weights of a model.
        source: names the file in error messages.

    Raises:
        UserError: a backbone's weights are absent or another network's.
    """
    for name, module in model.named_modules():
        if not isinstance(module, Backbone):
            continue
        found = {
            k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")
        }
        if not found:
            raise UserError(
                f"checkpoint {source} has no weights of the model's {name}; weights of a backbone "
                f"alone go into init_cfg=dict(type='Pretrained', checkpoint=...) of {name}"
            )
        optional = module.decision_keys()
        checkpoints.check_architecture(module.state_dict(), found, source, optional=optional)
