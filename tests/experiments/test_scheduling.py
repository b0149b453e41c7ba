import threading

import pytest

from dynbackbones.errors import UserError
from dynbackbones.experiments.scheduling import Durations, Task, duration, run_tasks


def recorded(done, key, after=None):
    return Task(key, f"task {key}", "kind", lambda: done.append(key), after)


@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_starts_before_what_it_waits_for(jobs):
    done = []
    tasks = [recorded(done, "c", "b"), recorded(done, "b", "a"), recorded(done, "a")]
    assert run_tasks([*tasks, recorded(done, "d", "made before")], jobs, say=lambda _: None) == []
    assert sorted(done) == list("abcd")
    assert done.index("a") < done.index("b") < done.index("c")


def test_as_many_at_a_time_as_asked():
    together = threading.Barrier(2, timeout=30)
    tasks = [Task(index, str(index), "kind", together.wait) for index in range(4)]
    assert run_tasks(tasks, 2, say=lambda _: None) == []


def test_a_failure_ends_only_what_waits_for_it():
    done, lines = [], []

    def fail():
        raise UserError("no such key")

    tasks = [
        Task("a", "task a", "kind", fail),
        recorded(done, "b", "a"),
        recorded(done, "c", "b"),
        recorded(done, "d"),
    ]
    failed = run_tasks(tasks, say=lines.append, after_each=lambda: done.append("written"))
    assert done == ["d", "written"]
    assert failed == ["no such key", "task b waits for task a", "task c waits for task a"]
    assert "error: no such key" in lines


def test_a_defect_is_no_mistake_of_the_users():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_tasks([Task("a", "task a", "kind", fail)], say=lambda _: None)


def test_time_left_is_that_of_tasks_of_the_same_kind():
    durations = Durations()
    tasks = [Task(index, "", kind, list) for index, kind in enumerate(("long", "short", "new"))]
    assert durations.left(tasks, {}, 2) == 0
    for kind, seconds in (("long", 100), ("long", 200), ("short", 30)):
        durations.add(kind, seconds)
    assert durations.expected("new") == 110
    assert durations.left(tasks, {}, 2) == (150 + 30 + 110) / 2
    # One runs: of what it takes 50 seconds are over, and another one is late.
    assert durations.left(tasks[1:2], {tasks[0]: 50.0, tasks[2]: 500.0}, 2) == (100 + 30) / 2


@pytest.mark.parametrize(
    "seconds, text", [(7.4, "7 s"), (75, "1 min 15 s"), (7260, "2 h 1 min"), (3600, "1 h 0 min")]
)
def test_durations_as_people_say_them(seconds, text):
    assert duration(seconds) == text
