"""What an engine for YAML detectors is: three functions, in the module ``engine`` of an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

    from dynbackbones.analysis.survey import Predictor

ENGINES = ("detectron2", "torchvision")


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
