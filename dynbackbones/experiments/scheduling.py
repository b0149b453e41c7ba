"""Tasks that wait for each other, several at a time, with the time left."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from dynbackbones.errors import UserError
from dynbackbones.experiments import processes


@dataclass(frozen=True)
class Task:
    """Something to do once.

    Attributes:
        key: what others wait for.
        title: printed when it starts.
        kind: tasks of one kind take about as long as each other.
        work: does it.
        after: key of the task that must have been done before, if any.
    """

    key: Hashable
    title: str
    kind: Hashable
    work: Callable[[], Any]
    after: Hashable | None = None


@dataclass
class Durations:
    """How long tasks of each kind took, in seconds."""

    seconds: dict[Hashable, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: Hashable, seconds: float) -> None:
        """One more."""
        self.seconds[kind].append(seconds)

    def expected(self, kind: Hashable) -> float | None:
        """Of a task; the mean of all others where none of its kind is known, None without any."""
        known = self.seconds.get(kind) or [s for kind in self.seconds.values() for s in kind]
        return statistics.fmean(known) if known else None

    def left(self, waiting: Sequence[Task], running: Mapping[Task, float], jobs: int) -> float:
        """Until all is done; of what runs, the seconds that it has run are known."""
        total = sum(self.expected(task.kind) or 0.0 for task in waiting)
        for task, passed in running.items():
            total += max((self.expected(task.kind) or 0.0) - passed, 0.0)
        return total / max(min(jobs, len(waiting) + len(running)), 1)


def run_tasks(
    tasks: Sequence[Task],
    jobs: int = 1,
    *,
    durations: Durations | None = None,
    after_each: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[str]:
    """Does tasks in their order, as far as they need not wait.

    A user's mistake in one ends what waits for it, and not the others.

    Args:
        tasks: unfinished ones; what is waited for and not among them counts as done.
        jobs: how many at a time, each in a thread of its own.
        durations: of tasks before; gets those of these.
        after_each: called in this thread when one was done.
        say: prints a line.

    Returns:
        What went wrong, a line for each failed task.
    """
    durations = Durations() if durations is None else durations
    waiting, undone, failed = list(tasks), {task.key for task in tasks}, []
    running: dict[Future, tuple[Task, float]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                for task in [t for t in waiting if t.after not in undone][: jobs - len(running)]:
                    number = len(tasks) - len(waiting) + 1
                    say(f"cell {number} of {len(tasks)}: {task.title}")
                    waiting.remove(task)
                    running[pool.submit(task.work)] = (task, time.monotonic())
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task, started = running.pop(future)
                    seconds = time.monotonic() - started
                    try:
                        future.result()
                    except UserError as error:
                        failed.append(str(error))
                        say(f"error: {error}")
                        waiting, lost = _without(waiting, task)
                        failed += [f"{other.title} waits for {task.title}" for other in lost]
                        continue
                    undone.discard(task.key)
                    durations.add(task.kind, seconds)
                    after_each()
                    passed = {t: time.monotonic() - at for t, at in running.values()}
                    left = durations.left(waiting, passed, jobs)
                    rest = len(waiting) + len(running)
                    say(f"{task.title}: {duration(seconds)}; {_left(rest, left)}")
        except BaseException:
            processes.end_all()
            raise
    return failed


def _without(waiting: Sequence[Task], failed: Task) -> tuple[list[Task], list[Task]]:
    """What still can be done after a failure, and what can not."""
    lost, keys = [], {failed.key}
    for task in waiting:  # in an order in which nothing waits for what comes later
        if task.after in keys:
            lost.append(task)
            keys.add(task.key)
    return [task for task in waiting if task not in lost], lost


def _left(count: int, seconds: float) -> str:
    if not count:
        return "all done"
    at = time.strftime("%H:%M", time.localtime(time.time() + seconds))
    return f"{count} left, about {duration(seconds)}, until {at}"


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
