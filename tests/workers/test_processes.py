"""Processes of this machine as a pool: results, limits of time, deaths, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from duties import Duties, end_at_once, gone, make, make_one, nobody_left, read, refuse, until

from sbikit.problem.errors import PluginError
from sbikit.workers.here import Here
from sbikit.workers.pool import Done, Lost, Pool, Recipe, Task
from sbikit.workers.processes import Processes


@pytest.fixture(params=[1, 2])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Processes(Recipe(make, (3,)), request.param) as found:
        yield found


def values(pool: Pool, *arguments: tuple[object, ...]) -> list[object]:
    """Results in the order of the tasks."""
    found = {}
    for result in pool.run(Task(i, argument) for i, argument in enumerate(arguments)):
        assert isinstance(result, Done), result
        found[result.task.key] = result.value
    return [found[key] for key in sorted(found)]


def test_every_task_has_its_result(pool: Pool) -> None:
    assert values(pool, *[("multiply", x) for x in range(200)]) == [3 * x for x in range(200)]


def test_a_worker_makes_its_function_once_and_has_one_thread(pool: Pool) -> None:
    found = values(pool, *[("who",)] * 20)
    assert all(pid == made_in != os.getpid() for pid, made_in in found)  # type: ignore[misc]
    assert len(set(found)) <= pool.workers
    assert values(pool, ("threads",)) == ["1"]


def test_no_more_tasks_are_read_than_there_is_room_for(pool: Pool) -> None:
    read_so_far = 0

    def tasks() -> Iterator[Task]:
        nonlocal read_so_far
        for i in range(50):
            read_so_far += 1
            yield Task(i, ("multiply", i))

    for taken, _ in enumerate(pool.run(tasks())):
        assert read_so_far <= taken + pool.room


def test_results_larger_than_a_pipe_holds_come_whole(pool: Pool) -> None:
    assert values(pool, *[("large", 5_000_000)] * 3) == [bytes(5_000_000)] * 3


def test_what_a_worker_raises_is_raised_here(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no such thing") as caught:
        values(pool, ("refuse", "no such thing"))
    assert "in refuse" in caught.value.__notes__[0]
    assert values(pool, ("multiply", 1)) == [3]


def test_a_task_that_outlasts_its_limit_is_lost_and_others_are_not(pool: Pool, tmp_path: Path) -> None:
    values(pool, *[("multiply", 1)] * 8)  # workers are there
    with nobody_left(tmp_path / "hangs"):
        pool.give(Task("hangs", ("hang", str(tmp_path / "hangs")), seconds=1.0))
        for i in range(6):
            pool.give(Task(i, ("multiply", i)))
        found = [pool.take() for _ in range(7)]
    lost = [one for one in found if isinstance(one, Lost)]
    assert [(one.task.key, one.why, one.words) for one in lost] == [("hangs", "timeout", "longer than 1 s")]
    assert sorted(one.value for one in found if isinstance(one, Done)) == [0, 3, 6, 9, 12, 15]


def test_the_task_of_a_killed_worker_is_done_by_another(pool: Pool, tmp_path: Path) -> None:
    here, go = tmp_path / "here", tmp_path / "go"
    pool.give(Task("waits", ("wait_for", str(here), str(go))))
    (first,) = read(here)
    here.unlink()
    os.kill(first, signal.SIGKILL)
    (second,) = read(here)
    go.touch()
    result = pool.take()
    assert isinstance(result, Done)
    assert result.value == second != first


def test_a_task_that_kills_its_workers_is_lost_with_the_reason(pool: Pool, tmp_path: Path) -> None:
    pool.give(Task("crash", ("crash",)))
    pool.give(Task("end", ("end", 5), lives=1))
    pool.give(Task("once", ("end_once", str(tmp_path / "mark"))))
    found = {one.task.key: one for one in (pool.take() for _ in range(3)) if one is not None}
    assert isinstance(found["crash"], Lost)
    assert (found["crash"].why, found["crash"].words) == ("died", "SIGSEGV")
    assert isinstance(found["end"], Lost)
    assert (found["end"].why, found["end"].words) == ("died", "exit status 5")
    assert isinstance(found["once"], Done)


def test_what_is_forgotten_comes_back_to_nobody(pool: Pool) -> None:
    for i in range(20):
        pool.give(Task(i, ("multiply", i)))
    pool.forget()
    assert pool.take() is None
    assert values(pool, ("multiply", 100)) == [300]


def test_closing_ends_workers_and_what_they_started(tmp_path: Path) -> None:
    with nobody_left(tmp_path / "0", tmp_path / "1"), Processes(Recipe(make, (3,)), 2) as pool:
        for i in range(2):
            pool.give(Task(i, ("hang", str(tmp_path / str(i)))))
        for i in range(2):
            read(tmp_path / str(i))


def test_a_function_that_cannot_be_made_says_why() -> None:
    with (
        Processes(Recipe(refuse, ("no licence",)), 1) as pool,
        pytest.raises(RuntimeError, match="no licence"),
    ):
        values(pool, ("multiply", 1))
    with (
        Processes(Recipe(end_at_once), 2) as pool,
        pytest.raises(PluginError, match="die before they are ready") as caught,
    ):
        values(pool, ("multiply", 1))
    assert caught.value.got == "exit status 7"


def test_a_pool_goes_on_that_works_while_its_new_workers_die(tmp_path: Path) -> None:
    with Processes(Recipe(make_one, (str(tmp_path),)), 2) as pool:
        deaths = [("wait_for_deaths", str(tmp_path), count) for count in range(6)]
        found = values(pool, *deaths, *[("multiply", x) for x in range(8)])  # no worker starts for the last
    assert found == [*range(6), *range(8)]


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(PluginError, match="cannot be told") as caught:
        Processes(Recipe(make, (threading.Lock(),)), 1)
    assert caught.value.where == "lock"


def test_functions_without_a_name_go_with_their_code() -> None:
    factor = 7

    def made() -> Callable[[int], int]:
        return lambda x: factor * x

    with Processes(Recipe(made), 1) as pool:
        pool.give(Task("seven times", 6))
        result = pool.take()
    assert isinstance(result, Done)
    assert result.value == 42


def test_this_process_is_a_pool_and_limits_take_another() -> None:
    with Here(Recipe(make, (3,), here=Duties(3))) as pool:
        assert values(pool, ("who",)) == [(os.getpid(), os.getpid())]
        pool.give(Task("limited", ("who",), seconds=60.0))
        result = pool.take()
        assert isinstance(result, Done)
        other, _ = result.value
        assert other != os.getpid()
        assert pool.take() is None
    assert gone(other)


SCRIPT = """
import signal
import sys
import threading
from duties import make
from sbikit.workers.pool import Recipe, Task
from sbikit.workers.places import open_pool, read_place
from sbikit.roles.monitor import QuietMonitor

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which what runs behind a shell does not hear
    kind, *paths = sys.argv[1:]
    place = read_place(2) if kind == "processes" else read_place(cluster="local:2")
    with open_pool(place, Recipe(make, (3,)), QuietMonitor()) as pool:
        list(pool.run(Task(path, ("hang", path)) for path in paths))
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["processes", pytest.param("dask", marks=pytest.mark.slow)])
def test_no_worker_outlives_the_program(kind: str, ending: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [tmp_path / "first", tmp_path / "second"]
    search = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    program = subprocess.Popen(
        [sys.executable, str(script), kind, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": search},
        stderr=subprocess.PIPE,
    )
    with nobody_left(*paths), program:
        for path in paths:
            read(path)
        program.send_signal(ending)
        program.communicate(timeout=60)
    assert program.returncode == -ending


MAIN = """
from sbikit.workers.pool import Done, Recipe, Task
from sbikit.workers.processes import Processes

class Mine:
    def __call__(self, x):
        return x + 1

def go():
    with Processes(Recipe(Mine), 1) as pool:
        print([one.value for one in pool.run(Task(i, i) for i in range(3))])
"""


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("if __name__ == '__main__':\n    go()\n", "[1, 2, 3]"),
        ("go()\n", "has finished its bootstrapping phase"),
    ],
)
def test_a_class_of_a_script_is_found_and_a_script_without_a_guard_told(
    end: str, expected: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(MAIN + end)
    search = os.pathsep.join(filter(None, sys.path))
    found = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert expected in found.stdout + found.stderr


def test_an_idle_worker_that_is_told_so_ends_itself() -> None:
    from sbikit.workers.worker import Worker, packed

    worker = Worker(packed(Recipe(make, (3,))), idle=0.1)
    assert worker.hear() is not None  # that it is ready
    until(lambda: not worker.alive())
    assert worker.hear() is None
    assert worker.epitaph() == "exit status 0"
