"""Training hooks: schedules of the backbones, and what they chose in the logs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.checkpoint import Checkpointer
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage
from torch import nn

from dynbackbones.backbones.base import find_backbones
from dynbackbones.training.loop import PREFIX, RateWatch, decision_tensors, set_progress
from dynbackbones.training.stopping import Stopped, StopRequest


class DynamicBackboneHook(HookBase):
    """Drives the schedules of the dynamic backbones in a model and logs their decisions.

    Before each step every schedule moves to ``iter / max_iter``, so that a resumed run continues
    where it was. After it, the mean over the batch (and over processes) of every value in
    ``decisions.figures()`` becomes a scalar ``decisions/...`` of the event storage, one for each
    stage and one for each selector. Register it before the writers, which otherwise see the
    values one period late.

    Args:
        model: the model that is trained, wrapped for distributed training or not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._watch = RateWatch()

    def before_step(self) -> None:
        set_progress(self._model, self.trainer.iter / self.trainer.max_iter)

    def after_step(self) -> None:
        self._watch.update(self._model)
        scalars = decision_scalars(self._model)
        if comm.is_main_process() and scalars:
            self.trainer.storage.put_scalars(**scalars)

    def after_train(self) -> None:
        for message in self._watch.finish():
            logging.getLogger("dynbackbones").warning(message)


class StopHook(HookBase):
    """Ends a training after the step in which a signal came to any of its processes.

    Register it last: the checkpoint that it writes has what all other hooks did. A signal ends the
    evaluation of a single process, too, within `ends_evaluations`; several, whose shares of the
    data may differ, evaluate to the end.

    Args:
        request: notes the signals of this process.
        checkpointer: of the run.
    """

    def __init__(self, request: StopRequest, checkpointer: Checkpointer) -> None:
        self._request = request
        self._checkpointer = checkpointer
        self._saved = -1

    @contextmanager
    def ends_evaluations(self, model: nn.Module) -> Iterator[None]:
        """Has a signal end evaluations of a model of detectron2 before their next image."""

        def before_image(backbone: nn.Module, inputs: tuple) -> None:
            # Not the training flag of the backbone, which may be frozen.
            if self._request.number and not model.training:
                self._stop(self._request.number)

        if comm.get_world_size() > 1:
            yield
            return
        # Its backbone and not the model: a zoom calls the parts of a model.
        part = getattr(model, "backbone", model)
        handle = part.register_forward_pre_hook(before_image)
        try:
            yield
        finally:
            handle.remove()

    def after_step(self) -> None:
        number = max(comm.all_gather(self._request.number))
        if number:
            self._stop(number)

    def _stop(self, number: int) -> None:
        done = self.trainer.iter
        # After the last step there is model_final, and detectron2 evaluates once more even where
        # the last step was stopped.
        if done < self.trainer.max_iter and done != self._saved:
            self._checkpointer.save(f"model_{done:07d}", iteration=done)
            self._saved = done
        comm.synchronize()  # or a process that ends could end the one that writes
        raise Stopped(number, self._checkpointer.save_dir)


def decision_scalars(model: nn.Module) -> dict[str, float]:
    """Mean over images and processes of what the backbones in a model chose in the last forward.

    Returns:
        ``decisions/activation_rate`` and so on; the second backbone's begin with ``decisions2/``.
        Only the main process gets means over all processes.
    """
    values = decision_tensors(model)
    if not values:
        return {}
    device = next(model.parameters()).device
    values = {name: value.to(device) for name, value in values.items()}
    values = comm.reduce_dict(values)
    # One transfer from the device instead of one for each value.
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


class ActivationRatePrinter(EventWriter):
    """Prints the rates of decisions, and those of stages, as detectron2 prints losses.

    Args:
        model: the model that is trained, wrapped for distributed training or not.
        window: iterations to average over.
    """

    def __init__(self, model: nn.Module, window: int = 20) -> None:
        self._model = model
        self._window = window
        self._last = -1
        self._logger = logging.getLogger("dynbackbones")

    def write(self) -> None:
        storage = get_event_storage()
        decisions = [net.decisions for net in find_backbones(self._model)]
        rates = [f"{PREFIX}/{made.rate_name}" for made in decisions if made and made.rate_name]
        names = [
            name
            for name in storage.latest()
            if any(name.startswith(r) and "block" not in name.removeprefix(r) for r in rates)
        ]
        iteration = max((storage.latest()[name][1] for name in names), default=self._last)
        if iteration == self._last:  # the last call after training has nothing new
            return
        self._last = iteration
        averages = (
            f"{name.removeprefix(f'{PREFIX}/')}: {storage.history(name).avg(self._window):.3f}"
            for name in names
        )
        self._logger.info(f" iter: {iteration}  {'  '.join(averages)}")
