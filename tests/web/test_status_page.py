"""The status page, as a person sees it at night."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from starlette.types import Message

from dcs_task_exporter.config.model import Config, StatusWordsConfig
from dcs_task_exporter.state.file import StateStatus
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import Instance, Task
from dcs_task_exporter.tasks.snapshots import Failure, Snapshot, TaskMetrics
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.status_page import ExporterStatus
from tests.support.fake_source import QuietSource

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


class FakeSource(QuietSource):
    """A source that shows the given snapshots."""

    def __init__(
        self,
        snapshots: Sequence[Snapshot],
        state: StateStatus | None = None,
        problems: Sequence[str] = (),
        failure_words: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        words = StatusWordsConfig(failure=failure_words)
        self.config = Config.model_construct(projects=(), status_words=words)
        self._state = state
        self._snapshots = snapshots
        self._problems = problems

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Do nothing: the page must not ask for it."""
        message = f"the page must not refresh ({timeout}, {target})"
        raise AssertionError(message)

    def snapshots(self) -> Sequence[Snapshot]:
        """Return the given snapshots."""
        return self._snapshots

    def status(self) -> ExporterStatus:
        """Return the given problems and state."""
        return ExporterStatus(NOW, problems=self._problems, state=self._state)


def metrics(*tasks: Task, finished: int = 0) -> TaskMetrics:
    """Return metrics that show these tasks."""
    recent = {(task.name, task.status): 1 for task in tasks}
    active = {task.name: 1 for task in tasks if task.status == "EXECUTING"}
    return TaskMetrics(
        finished={("EXTEND", "SUCCESS"): finished, ("EXTEND", "FAILED"): 0},
        recent=recent,
        active=active,
        oldest_active_start=dict.fromkeys(active, NOW - 300),
        last_start={},
        last_end={},
        last_duration={},
        last_success={},
        last_failure={},
        latest={},
        last_extend=None,
        tasks=tasks,
    )


def task(name: str = "EXTEND", status: str = "SUCCESS", **more: object) -> Task:
    """Return a task that took 42 seconds."""
    fields = {"id": "t1", "created_at": NOW - 600, "updated_at": NOW - 558, **more}
    return Task(name=name, status=status, **fields)  # type: ignore[arg-type]


def instance(name: str = "orders-cache") -> Instance:
    """Return an instance."""
    return Instance(id=f"id-of-{name}", name=name, project="prod", region="cn-north-4")


def good(name: str = "orders-cache", shown: TaskMetrics | None = None) -> Snapshot:
    """Return an instance that was read four minutes ago."""
    return Snapshot(
        instance(name),
        up=True,
        metrics=shown or metrics(),
        refreshed_at=NOW - 240,
        attempted_at=NOW - 240,
        refresh_duration=0.4,
    )


def down(shown: TaskMetrics | None = None, message: str = "no answer in 5 s") -> Snapshot:
    """Return an instance that cannot be read."""
    return Snapshot(
        instance("pay-cache"),
        metrics=shown,
        refreshed_at=NOW - 7200,
        attempted_at=NOW - 5,
        failure=Failure(NOW - 5, "timeout", message, "DCS.4201", "req-77"),
    )


@dataclass(frozen=True)
class Answer:
    """The answer of the application."""

    headers: dict[str, str]
    text: str


def ask(source: FakeSource) -> Answer:
    """Ask the application itself for the page, without a server."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(create_app(source.sources)(scope, receive, send))
    headers = {key.decode().title(): value.decode() for key, value in sent[0]["headers"]}
    return Answer(headers, sent[1]["body"].decode())


def page(*snapshots: Snapshot, failure_words: tuple[str, ...] = ()) -> str:
    """Return the page with its white space made single, so that words can be looked for."""
    answer = ask(FakeSource(snapshots, failure_words=failure_words))
    return re.sub(r"\s+", " ", answer.text)


@pytest.mark.parametrize(
    ("snapshots", "headline"),
    [
        ((good(), good("b")), "All 2 instances read"),
        ((good(),), "1 of 1 instance read"),
        ((good(), down()), "1 of 2 instances read, 1 failing"),
        ((good(), Snapshot(instance())), "1 of 2 instances read, 1 not read yet"),
        ((), "No instance is watched"),
    ],
)
def test_headline(snapshots: tuple[Snapshot, ...], headline: str) -> None:
    """The headline says in words how many instances are read."""
    assert f"<h1>{headline}</h1>" in page(*snapshots)


@pytest.mark.parametrize("snapshots", [(), (good(),), (good(), good("b"))], ids=len)
def test_a_project_that_is_not_watched(snapshots: tuple[Snapshot, ...]) -> None:
    """While a project is not watched the page is never green, and says why."""
    why = "Project qa: discovery finds no instance to watch."
    answer = ask(FakeSource(snapshots, problems=[why]))

    (kind,) = re.findall(r'class="card banner (\w+)"', answer.text)
    assert kind == "failing"
    assert why in answer.text
    assert not snapshots or ", 1 problem</h1>" in answer.text


@pytest.mark.parametrize("fact", ["orders-cache", "id-of-orders-cache", "prod", "cn-north-4"])
def test_instance_is_named(fact: str) -> None:
    """An instance is shown with its name, id, project and region."""
    assert fact in page(good())


@pytest.mark.parametrize("fact", ["2027-01-15 07:56:00 UTC", "4 min 0 s ago"])
def test_age(fact: str) -> None:
    """The time of the data is shown absolutely and as an age."""
    assert fact in page(good())


@pytest.mark.parametrize("fact", ["timeout", "no answer in 5 s", "DCS.4201", "req-77"])
def test_error_is_explained(fact: str) -> None:
    """A failing instance shows reason, message, error code and request id."""
    assert fact in page(down())


def test_outage_is_not_zero() -> None:
    """Without any data, failed tasks are unknown and never 0."""
    text = page(down())
    assert "<dt>Failed tasks listed</dt> <dd>unknown" in text


def test_outage_has_no_table() -> None:
    """Without data there is no table of tasks, empty or not."""
    text = page(down())
    assert ("<table" in text, "No data: the tasks of this instance are unknown." in text) == (
        False,
        True,
    )


def test_partial_outage_is_named() -> None:
    """Sums over some instances say that others are unknown."""
    text = page(good(), down())
    assert "The tasks of 1 instance are unknown" in text
    assert "of the 1 with data" in text


def test_old_data_are_marked() -> None:
    """Data from before an outage are shown as such."""
    assert "The data below were read 2 h 0 min ago" in page(down(metrics(task())))


def test_not_read_yet() -> None:
    """An instance that was never tried is neither up nor failing."""
    assert "No data yet: this instance has not been read." in page(Snapshot(instance()))


@pytest.mark.parametrize(
    "fact",
    [
        "EXTEND",
        "SUCCESS",
        "2027-01-15 07:50:00 UTC",
        "2027-01-15 07:50:42 UTC",
        "42 s",
        "capacity 0.125 -&gt; 0.25 GB",
    ],
)
def test_task_row(fact: str) -> None:
    """A task is shown with name, status, start, end, duration and summary."""
    shown = task(details=TaskDetails(old_capacity=0.125, new_capacity=0.25))
    assert fact in page(good(shown=metrics(shown)))


@pytest.mark.parametrize("fact", ["not finished", "6 min 0 s so far"])
def test_active_task(fact: str) -> None:
    """A task that runs has no end, and a duration up to the reading."""
    assert fact in page(good(shown=metrics(task(status="EXECUTING"))))


def test_failed_tasks_are_counted() -> None:
    """Failed tasks are counted in words beside the instance."""
    assert "1 failed task<" in page(good(shown=metrics(task(status="FAILED"))))


def test_configured_failure_word() -> None:
    """A status word that the configuration adds counts as it says."""
    text = page(good(shown=metrics(task(status="BROKEN"))), failure_words=("BROKEN",))
    assert "1 failed task<" in text


def test_finished_counter() -> None:
    """The counter of finished tasks is shown."""
    assert 'data-label="Counted">17<' in page(good(shown=metrics(finished=17)))


def test_truncation_is_named() -> None:
    """A listing that was cut says so."""
    cut = Snapshot(instance(), up=True, metrics=metrics(), refreshed_at=NOW, truncated=True)
    assert "cut by the page cap" in page(cut)


@pytest.mark.parametrize(
    "snapshot",
    [
        good(shown=metrics(task(name="<script>alert(1)</script>"))),
        good(shown=metrics(task(status="<script>alert(1)</script>"))),
        good(name="<script>alert(1)</script>"),
        down(message="<script>alert(1)</script>"),
    ],
)
def test_escaping(snapshot: Snapshot) -> None:
    """Text from outside is never markup."""
    text = page(snapshot)
    assert ("<script" in text, "&lt;script&gt;" in text) == (False, True)


def test_user_names_stay_private() -> None:
    """Who started a task is not on the page."""
    shown = task(user_name="alice", details=TaskDetails(account_name="bob"))
    text = page(good(shown=metrics(shown)))
    assert ("alice" in text, "bob" in text) == (False, False)


def test_unreadable_time() -> None:
    """A time outside the calendar is unknown, not an error."""
    assert "unknown" in page(good(shown=metrics(task(created_at=1e18, updated_at=None))))


def test_trouble_comes_first() -> None:
    """A failing instance is shown before those that are up."""
    text = page(good("a-cache"), down())
    assert text.index("pay-cache") < text.index("a-cache")


def test_nothing_external() -> None:
    """The page loads nothing and runs nothing."""
    assert not re.search(r"<script|<link|<img|\bsrc=|@import|url\(|\bon\w+=", page(good(), down()))


def test_policy_allows_only_its_style() -> None:
    """The content policy allows the one style by its nonce, and no script."""
    answer = ask(FakeSource([good()]))
    nonce = re.findall(r'<style nonce="([^"]+)">', answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'nonce-{nonce[0]}';")


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")],
)
def test_security_headers(header: str, value: str) -> None:
    """The page has the usual headers of caution."""
    assert ask(FakeSource([])).headers[header] == value


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready"])
def test_links(path: str) -> None:
    """The page links to the metrics and the health answers."""
    assert f'href="{path}"' in page()


def test_counts_in_memory() -> None:
    """Without a state file the page says that a restart begins at 0."""
    assert "Counts are kept in memory: a restart begins at 0." in page()


def test_counts_on_disk() -> None:
    """With a state file the page says where it is and when it was saved."""
    shown = ask(FakeSource([], StateStatus("/var/lib/x/state.db", last_save=NOW))).text

    assert "<code>/var/lib/x/state.db</code>, last saved 2027-01-15 08:00:00 UTC" in shown


def test_counts_not_saved() -> None:
    """A state file that cannot be used is named at the top: counting goes on."""
    state = StateStatus("/x/state.db", "cannot be saved to: disk full")
    shown = ask(FakeSource([], state)).text

    assert "Counts are not saved" in shown
    assert "cannot be saved to: disk full" in shown


def test_only_a_page_that_is_opened_loads_its_library() -> None:
    """An exporter whose page nobody opens does not hold the library of the page in memory."""
    code = (
        "import sys; from dcs_task_exporter.web.app import create_app; "
        "from dcs_task_exporter.commands import serve; sys.exit('jinja2' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - a test's own
