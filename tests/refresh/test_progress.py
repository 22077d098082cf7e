"""The progress of active tasks: asked for where it is offered, and never at a refresh's cost."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from prometheus_client import generate_latest

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.refresh.progress import ProgressReader
from dcs_task_exporter.refresh.workers import WorkerPool
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Instance, Progress, Task
from dcs_task_exporter.tasks.statuses import StatusTable
from tests.support.clouds import samples, scrape, value, world
from tests.support.held_source import Source
from tests.support.kept_journal import KeptJournal
from tests.support.refresh_settings import RULES, collector


def test_progress_is_shown() -> None:
    """The ratio and the remaining seconds of an active task that offers progress are shown."""
    with world(1) as here, here.exporter(task_progress="true") as exporter:
        here.cloud.start_task("i0", "EXTEND", enable_show=True)
        found = scrape(exporter)

    assert value(found, "dcs_task_progress_ratio", task_name="EXTEND") == 0.3
    assert value(found, "dcs_task_remaining_seconds", task_name="EXTEND") == 100


def test_off_by_default() -> None:
    """Without being asked for, no request is made."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.start_task("i0", "EXTEND", enable_show=True)
        scrape(exporter)

        assert here.cloud.count("task_progress") == 0


def test_only_what_offers_it() -> None:
    """Neither a finished task is asked for, nor one that offers no progress."""
    with world(1) as here, here.exporter(task_progress="true") as exporter:
        here.cloud.start_task("i0", "EXTEND")
        here.cloud.start_task("i0", "modify", "SUCCESS", enable_show=True)
        scrape(exporter)

        assert here.cloud.count("task_progress") == 0


@pytest.mark.parametrize("fault", ["no_such_api", "forbidden", "html_200", "a_list", "close"])
def test_no_progress_is_no_failure(fault: str) -> None:
    """A progress that cannot be had is absent, and the instance is read all the same."""
    with world(1) as here, here.exporter(task_progress="true") as exporter:
        here.cloud.faults.add(fault, operation="task_progress")
        here.cloud.start_task("i0", "EXTEND", enable_show=True)
        found = scrape(exporter)

    assert value(found, "dcs_instance_up") == 1
    assert value(found, "dcs_task_progress_ratio", task_name="EXTEND") is None


def test_it_ends_with_the_task() -> None:
    """The progress of a task that has ended is gone."""
    with world(1) as here, here.exporter(task_progress="true") as exporter:
        task = here.cloud.start_task("i0", "EXTEND", enable_show=True)
        scrape(exporter, here.clock)
        here.cloud.finish_task("i0", task)
        found = scrape(exporter, here.clock)

    assert value(found, "dcs_task_progress_ratio", task_name="EXTEND") is None


def test_a_silence_is_not_at_the_cost_of_the_listings() -> None:
    """While progress is silent all is read and shown, and nothing is asked again for a minute."""
    with world(3) as here, here.exporter(task_progress="true", timeout="30s") as exporter:
        here.cloud.faults.add("silence", operation="task_progress")
        for instance in ("i0", "i1", "i2"):
            here.cloud.start_task(instance, "EXTEND", enable_show=True)
        reading = threading.Thread(target=exporter.fleet.refresh_and_wait, args=(30,))
        reading.start()
        assert here.cloud.wait_for(lambda: here.cloud.count("task_progress") == 2)
        found = samples(generate_latest(exporter.renderer.registry).decode())
        here.cloud.faults.released.set()
        reading.join()
        scrape(exporter, here.clock)

        assert here.cloud.count("task_progress") == 2
    active = [number for (name, _), number in found.items() if name == "dcs_tasks_active"]
    assert active.count(1) >= 2


def asked_after(seconds: float, *, stopped: bool = False) -> tuple[list[str], list[str]]:
    """Ask for the progress of two instances, of which the first answers after some time.

    Returns which were asked, and of which the read was ended.
    """
    steady = 0.0
    asked: list[str] = []
    done: list[str] = []
    ended, both = threading.Semaphore(0), threading.Event()

    class Slow(Source):
        def task_progress(self, instance_id: str, task_id: str, deadline: float) -> Progress:
            nonlocal steady
            assert task_id
            assert deadline
            assert both.wait(30)
            asked.append(instance_id)
            steady += seconds
            return Progress(0.5, 1.0)

    def end(name: str) -> None:
        done.append(name)
        ended.release()

    clock = Clock(monotonic=lambda: steady)
    reader = ProgressReader(Slow(), StatusTable(), clock, WorkerPool("progress", 1))
    if stopped:
        reader.stop()
    task = Task("t", "EXTEND", "EXECUTING", 1.0, enable_show=True)
    journal = KeptJournal(InstanceState(active={"t": task}))
    for name in ("i0", "i1"):
        instance = Instance(name, name, "prod")
        watched = WatchedInstance(instance, collector(), RULES, clock, journal)
        reader.read(watched, partial(end, name))
    both.set()
    for _ in range(2):
        assert ended.acquire(timeout=30)
    reader.stop()
    return asked, done


def test_a_question_that_comes_too_late_is_not_asked() -> None:
    """An instance whose turn comes late goes without progress, rather than be read late."""
    assert asked_after(1.0) == (["i0", "i1"], ["i0", "i1"])
    assert asked_after(2.0) == (["i0", "i1"], ["i0", "i1"])
    assert asked_after(10.0) == (["i0"], ["i0", "i1"])


def test_nothing_is_asked_after_the_end() -> None:
    """A read that ends after the exporter was stopped asks nothing more."""
    assert asked_after(1.0, stopped=True) == ([], ["i0", "i1"])
