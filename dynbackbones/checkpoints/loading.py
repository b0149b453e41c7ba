"""Loading weights into a backbone, or into any model that contains one."""

import os
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from dynbackbones.backbones.base import Backbone
from dynbackbones.checkpoints.download import local_file
from dynbackbones.checkpoints.files import differences
from dynbackbones.checkpoints.finding import Weights, state_dict_of
from dynbackbones.checkpoints.fit import LoadReport, fit
from dynbackbones.checkpoints.reading import load
from dynbackbones.errors import UserError

DETECTOR_PREFIX = "detector."
"""Of all names in checkpoints that the torchvision engine writes while it trains."""
_HOLDERS = (DETECTOR_PREFIX, "model.", "net.", "network.")


def load_weights(
    model: nn.Module,
    source: str | os.PathLike,
    *,
    key: str | None = None,
    prefix: str | None = None,
    allow_other_heads: bool = False,
) -> LoadReport:
    """Loads weights from a file into a backbone, or into a model that contains one.

    The file may hold a whole model of the same kind, or a backbone: with or without a classifier,
    alone or inside a model of another kind, in the names of this package, torchvision, timm,
    OpenMMLab or detectron2, under whatever key beside whatever a training keeps, and with what
    `DataParallel` and `torch.compile` put before names. Weights that do not fit exactly are
    refused, and nothing is loaded; of a plain ResNet's file a BlockDrop network takes all but its
    policy network. No code from the file is run.

    Args:
        model: a backbone of `build_backbone`, or a detector, segmentor or classifier of any
            framework that contains exactly one; a model without one, such as `video.AdaFrame`, or
            with several, such as a `PatchDrop`, takes a file that is its own to the last weight.
        source: a file, a URL (downloaded once), or ``torchvision://resnet50``.
        key: that the weights are under in the file, with dots between several, such as ``"ema"``;
            found out if None.
        prefix: what the backbone's names in the file begin with, followed by this package's names;
            found out if None. With a prefix only the backbone is loaded.
        allow_other_heads: where a whole model's file has layers of another shape outside the
            backbone, as with another number of classes, these keep their initial values.

    Returns:
        What was loaded, mapped and left out; as text one line for a log.

    Raises:
        UserError: the file is not there or unsafe, its weights are another network's, or the model
            contains several backbones of this package, or none and the weights are not its own.

    Example:
        >>> import tempfile, torch, dynbackbones
        >>> plain = dynbackbones.build_backbone("cifar_resnet20")
        >>> net = dynbackbones.build_backbone("blockdrop_cifar_resnet20")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/classifier.pth"
        ...     torch.save({**plain.state_dict(), "fc.weight": torch.zeros(10, 64)}, file)
        ...     report = dynbackbones.load_weights(net, file)
        >>> report.left_out
        ('fc.weight',)
        >>> report.new[0]
        'policy.bn1.bias'
        >>> torch.equal(net.conv1.weight, plain.conv1.weight)
        True
    """
    state = read_weights(source, key)
    return load_state(model, state, source, prefix=prefix, allow_other_heads=allow_other_heads)


def read_weights(source: str | os.PathLike, key: str | None = None) -> Weights:
    """The weights in a file of any layout, from wherever it is; no code from it is run.

    Args:
        source, key: see `load_weights`.

    Raises:
        UserError: the file is not there or unsafe, or holds no weights.
    """
    return state_dict_of(load(local_file(source)), f"checkpoint {os.fspath(source)}", key)


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str | os.PathLike,
    *,
    prefix: str | None = None,
    allow_other_heads: bool = False,
) -> LoadReport:
    """`load_weights` with the weights that `read_weights` found in ``source``."""
    model = _unwrapped(model)
    wanted = model.state_dict()
    if prefix is None:
        state = _without_holders(state, wanted)
        if len(_backbones_in(model)) != 1 and not differences(wanted, state):
            return _load_all(model, state, source)
    place = _place_in(model)
    fitted, report = fit(
        wanted,
        place,
        state,
        source,
        optional=decision_keys(model),
        prefix=prefix,
        allow_other_heads=allow_other_heads,
    )
    # Not strict, since what is optional and batch norm's counters may be absent.
    model.load_state_dict(fitted, strict=False)
    return report


def _load_all(
    model: nn.Module, state: Mapping[str, Tensor], source: str | os.PathLike
) -> LoadReport:
    """Loads what is a model's own to the last weight, such as `video.AdaFrame`'s."""
    model.load_state_dict(state, strict=False)  # batch norm's counters may be absent
    remarks = tuple(state.remarks()) if isinstance(state, Weights) else ()
    return LoadReport(os.fspath(source), "", True, tuple(state), {}, (), (), {}, remarks)


def _unwrapped(model: nn.Module) -> nn.Module:
    """A model without what trains it in parallel or compiles it."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return model


def _without_holders(state: Mapping[str, Tensor], wanted: Collection[str]) -> Mapping[str, Tensor]:
    """Weights without the name of a model inside another object, as frameworks have it."""
    for _ in _HOLDERS:
        for holder in _HOLDERS:
            if all(key.startswith(holder) for key in state) and not any(
                key.startswith(holder) for key in wanted
            ):
                state = (state if isinstance(state, Weights) else Weights(state)).without(holder)
    return state


def decision_keys(model: nn.Module) -> set[str]:
    """Names in a model's `state_dict()` of what decides, which plain networks' files lack."""
    return {
        f"{name}.{key}".lstrip(".")
        for name, backbone in _backbones_in(model).items()
        for key in backbone.decision_keys()
    }


def _backbones_in(model: nn.Module) -> dict[str, Backbone]:
    return {name: part for name, part in model.named_modules() if isinstance(part, Backbone)}


def _place_in(model: nn.Module) -> str:
    """The place of a model's only backbone.

    Raises:
        UserError: it has none, or several.
    """
    found = list(_backbones_in(model))
    if not found:
        raise UserError(
            f"{type(model).__name__} contains no dynbackbones backbone, and the weights are not "
            "all its own; build it with one first, or as the file's model was built"
        )
    if len(found) > 1:
        raise UserError(
            f"{type(model).__name__} contains {len(found)} backbones ({', '.join(found)}), and the "
            "weights are not all its own; build it as the file's model was built, or give "
            f"load_weights one of them, such as model.{found[0]}"
        )
    return f"{found[0]}." if found[0] else ""
