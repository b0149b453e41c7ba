"""What has schedules that follow the share of training done."""

from dynbackbones.errors import UserError


class Scheduled:
    """Base of all that `dynbackbones.set_progress` finds in a model, whichever loop trains it.

    Attributes:
        progress: share of training done, set by `set_progress`.
    """

    progress = 0.0

    def set_progress(self, fraction: float) -> None:
        """Moves every schedule to a share of training done.

        Raises:
            UserError: ``fraction`` is outside [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise UserError(f"fraction of training must lie in [0, 1], got {fraction}")
        self.progress = float(fraction)
