"""What an engine for YAML detectors is: three functions, in the module ``engine`` of an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dynbackbones import checkpoints
from dynbackbones.errors import UserError

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from dynbackbones.analysis.survey import Predictor

ENGINES = ("detectron2", "torchvision")
# Where their detectors keep a backbone of this package.
_PLACES = {
    "torchvision": ("backbone.body.", "detector.backbone.body."),
    "detectron2": ("backbone.bottom_up.net.", "backbone.net."),
}


@dataclass(frozen=True)
class Launch:
    """How a run is started; everything else is in its config.

    Attributes:
        resume: continue from the last checkpoint in ``OUTPUT_DIR``.
        eval_only: evaluate and train nothing.
        num_gpus: processes on this machine, one per GPU.
        num_machines, machine_rank: how many machines there are, and which one this is.
        dist_url: where the processes meet.
        imports: the user's own modules, which every process imports.
        verbose: whether the console shows what the log file has.
    """

    resume: bool = False
    eval_only: bool = False
    num_gpus: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    imports: tuple[str, ...] = ()
    verbose: bool = False

    @property
    def processes(self) -> int:
        """Of all machines."""
        return self.num_gpus * self.num_machines


class Engine(Protocol):
    """Trains, evaluates and runs detectors of a YAML config."""

    def setup(self, config_file: str, opts: Sequence[str] = ()) -> CfgNode:
        """The config of a file and ``KEY VALUE ...`` overrides, checked and frozen.

        Raises:
            UserError: the config is wrong; nothing has been written.
        """

    def main(self, cfg: CfgNode, launch: Launch) -> None:
        """Trains and evaluates, or evaluates only; results go to ``OUTPUT_DIR``.

        Raises:
            UserError: the input is at fault; nothing has been overwritten.
        """

    def load_predictor(self, cfg: CfgNode) -> Predictor:
        """A trained detector that runs on single images.

        Raises:
            UserError: there are no weights, or they are of another architecture.
        """


def import_engine(name: str) -> Engine:
    """One of `ENGINES`; imports its framework."""
    if name == "detectron2":
        from dynbackbones.integrations.detectron2 import engine
    else:
        from dynbackbones.integrations.torchvision import engine
    return engine


def trained_by(checkpoint: Mapping[str, Any]) -> str | None:
    """The one of `ENGINES` whose detector a loaded checkpoint holds; None if neither's."""
    meta = checkpoint.get("meta")
    if isinstance(meta, Mapping) and meta.get("engine") in ENGINES:
        return meta["engine"]
    try:
        names = checkpoints.state_dict_of(checkpoint)
    except UserError:
        return None
    found = (engine for engine in ENGINES if any(k.startswith(_PLACES[engine]) for k in names))
    return next(found, None)


@contextmanager
def naming_the_engine(checkpoint: Mapping[str, Any], path: str, engine: str) -> Iterator[None]:
    """Says of weights that do not fit that they are the other engine's, if they are.

    Args:
        checkpoint: that is loaded inside the block.
        path: of its file.
        engine: whose detector it is loaded into.
    """
    try:
        yield
    except UserError as error:
        other = trained_by(checkpoint)
        if other in (None, engine):
            raise
        raise UserError(
            f"checkpoint {path} is a detector of the {other} engine: add --engine {other}; for "
            f"{engine}, dynbackbones convert takes its backbone"
        ) from error
