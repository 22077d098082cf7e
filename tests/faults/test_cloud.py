"""What the cloud can do to an exporter: errors, silence, nonsense, throttling."""

from __future__ import annotations

import pytest

from dcs_task_exporter.cloud.task_parser import TaskParser
from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.clouds import World
from tests.support.fault_rows import fault
from tests.support.fault_scene import Scene


@fault(
    "The cloud, or a gateway before it, has an error (5xx) for one instance",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="server"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: server", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape reads it; before that, `collector.retries` tries in each",
    within=15,
    causes=(
        "internal",
        "no_backend",
        "unavailable",
        "gateway_timeout",
        "html_502",
        "500 DCS.5024",
        "500 DCS.5039",
        "500 DCS.5043",
        "500 DCS.5077",
        "500 DCS.4842",
        "500 APIGW.0601",
        "494 APIGW.0201",
        "502 APIGW.0201",
    ),
)
def test_an_error_of_the_cloud(scene: Scene) -> None:
    """An error of the cloud costs its own instance, and only while it lasts."""
    scene.begin()
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud does not answer for one instance, or never ends its answer",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="timeout"} rises',
        'dcs_api_requests_total{operation="list_tasks",code="error"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: timeout", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape reads it; each try ends after `collector.timeout`",
    within=15,
    causes=("silence", "drip_body", "drip_head"),
)
def test_silence(scene: Scene) -> None:
    """An answer that does not come in time costs its own instance."""
    scene.begin(timeout=scene.patience)
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "A connection to the cloud breaks in the middle",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="connection"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: connection", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape reads it, on a new connection",
    within=15,
    causes=("cut", "reset", "close"),
)
def test_a_broken_connection(scene: Scene) -> None:
    """A connection that breaks costs its own instance."""
    scene.begin()
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud cannot be reached, or has an error for every instance",
    where="cloud",
    metrics=("dcs_instance_up = 0", "dcs_api_errors_total rises"),
    log=("warning: the instance cannot be read", "warning: the instance cannot be read"),
    page=("0 of 2 instances read, 2 failing", "down: data are old"),
    alerts=("DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the next scrape reads all",
    within=15,
    causes=("close", "internal", "silence"),
)
def test_an_outage(scene: Scene) -> None:
    """While the cloud is away every instance is down, with the data that were read before."""
    scene.begin(timeout=scene.patience)
    scene.cloud.faults.add(scene.reply)
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud, or a proxy, answers with what is no listing of tasks",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="invalid_response"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: invalid_response", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape reads it; a wrong endpoint or proxy must be mended",
    within=15,
    causes=(
        "html_200",
        "empty_200",
        "redirect",
        "truncated_json",
        "a_list",
        "a_number",
        "tasks_a_text",
        "task_without_id",
    ),
)
def test_nonsense(scene: Scene) -> None:
    """An answer that cannot be understood costs its own instance."""
    scene.begin()
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud refuses the request (400, 405)",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="bad_request"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: bad_request", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape reads it; `DCS.4094` says that this instance has no task API",
    within=15,
    causes=(
        "bad_offset",
        "no_tasks_here",
        "old_nested",
        "old_flat",
        "camel_case",
        "400 DCS.4002",
        "400 DCS.4017",
        "400 DCS.4025",
        "400 DCS.4026",
        "400 DCS.4049",
        "400 DCS.4061",
        "400 DCS.4062",
        "400 DCS.4063",
        "400 DCS.4070",
        "400 APIGW.0201",
        "405 DCS.5001",
        "413 APIGW.0201",
    ),
)
def test_a_refused_request(scene: Scene) -> None:
    """A request that the API refuses costs its own instance."""
    scene.begin()
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud does not know the instance, or the API (404)",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="not_found"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: not_found", "down: data are old"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape reads it; take a deleted instance out of the configuration",
    within=15,
    causes=("no_such_instance", "no_such_api", "404 DCS.4001"),
)
def test_an_unknown_instance(scene: Scene) -> None:
    """An instance that the cloud does not know costs itself alone."""
    scene.begin()
    scene.cloud.faults.add(scene.reply, instance_id="i0")
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The cloud throttles the exporter (429)",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0",
        'dcs_api_errors_total{operation="list_tasks",reason="throttled"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: throttled", "down: data are old"),
    alerts=("DCSApiThrottled", "DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the first scrape after the time that the cloud names, or after up to 30 s",
    within=90,
    causes=("throttled", "throttled_for_2s", "iam_throttled"),
)
def test_throttling(scene: Scene) -> None:
    """A cloud that throttles is obeyed: nothing is asked until the time that it names."""
    # Not a quarter of a minute: a request that waits for the rate limit waits in real time.
    scene.begin(1, step=90)
    scene.cloud.faults.add(scene.reply)
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


def older_first(here: World) -> None:
    """Give the first instance more tasks than are read."""
    for number in range(30):
        here.cloud.start_task("i0", "modify", "SUCCESS", created_at=here.clock.wall - 3600 + number)


@fault(
    "An instance has more tasks than are read, the newest first",
    where="cloud",
    metrics=("dcs_instance_up = 1", "dcs_instance_tasks_truncated = 1 for it alone"),
    page=("The listing was cut by the page cap: older tasks are missing.",),
    alerts=("DCSTaskListingTruncated",),
    recovers="the next scrape, once `collector.max_pages` is raised or tasks leave the window",
)
def test_a_listing_that_is_cut(scene: Scene) -> None:
    """A listing that is too long shows its newest tasks, and says so."""
    scene.begin(page_size=10, max_pages=2)
    older_first(scene.here)
    scene.shows()


@fault(
    "An instance has more tasks than are read, the newest last, and no total",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="incomplete_listing"} rises',
    ),
    log=("warning: the instance cannot be read",),
    page=("Reading failed: incomplete_listing", "raise collector.max_pages"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape, once `collector.max_pages` is raised or tasks leave the window",
)
def test_a_listing_that_may_lack_the_newest(scene: Scene) -> None:
    """A listing that may lack the newest tasks is a failed read."""
    scene.begin(quirks=Quirks(order="oldest", task_count="missing"), page_size=10, max_pages=2)
    older_first(scene.here)
    scene.shows()


@fault(
    "A task has a status that the exporter does not know",
    where="cloud",
    metrics=("dcs_instance_up = 1", 'dcs_tasks_recent{status="PAUSED"} = 1 for it alone'),
    log=(
        (
            "warning: an unknown status: its tasks are shown and treated as not finished; "
            "say what it means under status_words in the configuration"
        ),
    ),
    page=("PAUSED",),
    alerts=("DCSTaskUnknownStatus",),
    recovers="when the task gets a known status, or `status_words` names this one",
)
def test_an_unknown_status(scene: Scene) -> None:
    """An unknown status is shown under its own name, and logged once."""
    scene.begin()
    scene.cloud.start_task("i0", "EXTEND", "PAUSED")
    scene.shows()


@fault(
    "A task has a time before 2010, or in the future",
    where="cloud",
    metrics=("dcs_instance_up = 1", 'dcs_tasks_active{task_name="AddReplica"} = 1 for it alone'),
    log=("warning: a task has a time before 2010 or in the future: it counts as unknown",),
    recovers="not needed: the time counts as unknown, the task as any other",
)
def test_an_impossible_time(scene: Scene) -> None:
    """A task with an impossible time is counted, and its time counts as unknown."""
    scene.begin()
    scene.cloud.start_task("i0", "AddReplica", created_at=scene.here.clock.wall + 40 * 86_400)
    scene.shows()


@fault(
    "The cloud ignores `start_time`, and takes `begin_time`",
    where="cloud",
    metrics=("dcs_instance_up = 1",),
    log=("warning: the cloud ignores start_time: begin_time is sent instead",),
    recovers="not needed: the other name is sent, and old tasks are filtered here",
)
def test_another_start_parameter(scene: Scene) -> None:
    """A cloud that wants the other name of the parameter gets it, and that is logged once."""
    scene.begin(quirks=Quirks(start_parameter="begin_time"))
    scene.cloud.start_task(
        "i0", "modify", "SUCCESS", created_at=scene.here.clock.wall - 40 * 86_400
    )
    scene.shows()


@fault(
    "The cloud ignores both names of the start parameter",
    where="cloud",
    metrics=("dcs_instance_up = 1",),
    log=(
        "warning: the cloud ignores start_time: begin_time is sent instead",
        "warning: the cloud ignores begin_time: start_time and begin_time is sent instead",
        (
            "warning: the cloud ignores start_time and begin_time: it lists all tasks, which are "
            "filtered here"
        ),
    ),
    recovers="not needed: all tasks are listed, and filtered here",
)
def test_no_start_parameter(scene: Scene) -> None:
    """A cloud that knows no start is listed whole."""
    scene.begin(quirks=Quirks(start_parameter="neither"))
    scene.cloud.start_task(
        "i0", "modify", "SUCCESS", created_at=scene.here.clock.wall - 40 * 86_400
    )
    scene.shows()


QUIRKS = {
    "any order": Quirks(order="shuffled"),
    "oldest first": Quirks(order="oldest"),
    "task_count of the page": Quirks(task_count="page"),
    "no task_count": Quirks(task_count="missing"),
    "task_count as text": Quirks(task_count_as_text=True),
    "limit clamped": Quirks(max_limit=10),
    "tasks null": Quirks(empty_tasks="null"),
    "no tasks key": Quirks(empty_tasks="missing"),
    "no Date": Quirks(date=False),
    "center names instances": Quirks(center_names_instances=True),
}
"""What the documents leave open, beside the start parameter."""


@fault(
    "The API behaves in another of the ways that its documents leave open",
    where="cloud",
    metrics=("dcs_instance_up = 1", 'dcs_tasks_active{task_name="AddReplica"} = 1 for it alone'),
    recovers="not needed: both ways are read",
    causes=(
        "any order",
        "oldest first",
        "task_count of the page",
        "no task_count",
        "task_count as text",
        "limit clamped",
        "tasks null",
        "no tasks key",
        "no Date",
        "center names instances",
    ),
)
def test_what_is_left_open(scene: Scene) -> None:
    """What the documents leave open may be either way, and is no fault."""
    scene.begin(quirks=QUIRKS[scene.cause])
    scene.cloud.start_task("i0", "AddReplica")
    scene.shows()


@fault(
    "A bug of the exporter, or an answer that nobody foresaw",
    where="cloud",
    metrics=(
        "dcs_instance_up = 0 for it alone",
        'dcs_api_errors_total{operation="list_tasks",reason="internal"} rises',
    ),
    log=(
        "error: an answer of the cloud broke the exporter",
        "warning: the instance cannot be read",
    ),
    page=("Reading failed: internal", "internal error (KeyError): see the log"),
    alerts=("DCSInstanceUnreadable",),
    recovers="the next scrape, if the answer is another one; please report the traceback",
    within=15,
)
def test_a_bug(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw fails one read, and is logged with its traceback."""
    scene.begin()

    def broken(*_: object) -> None:
        raise KeyError(0)

    with monkeypatch.context() as patch:
        patch.setattr(TaskParser, "task", broken)
        scene.cloud.start_task("i0", "AddReplica")
        scene.shows()
    scene.recovers()


@fault(
    "The task center is missing or forbidden (`task_center`)",
    where="cloud",
    metrics=(
        "dcs_instance_up = 1",
        'dcs_api_errors_total{operation="list_center_tasks"} rises',
    ),
    log=("warning: the task center cannot be used here: every instance is read at each refresh",),
    recovers="every instance is read meanwhile; the center is asked again at the next full pass",
    causes=("no_such_api", "forbidden", "bad_offset"),
)
def test_no_task_center(scene: Scene) -> None:
    """Without a task center every instance is read."""
    scene.begin(
        edit=lambda text: text.replace(
            "    instances:\n", "    task_center: {enabled: true}\n    instances:\n"
        )
    )
    scene.cloud.faults.add(scene.reply, operation="list_center_tasks")
    scene.shows()


@fault(
    "Data gets old although nothing fails: the instances are read too seldom",
    where="cloud",
    metrics=("dcs_instance_up = 1",),
    alerts=("DCSDataStale",),
    recovers="nothing: lower `collector.min_refresh_interval`, raise `requests_per_second`, or "
    "switch on `task_center`",
)
def test_a_pass_takes_too_long(scene: Scene) -> None:
    """Data that are old although nothing fails raise an alert."""
    scene.begin(is_well=False, min_refresh_interval="30m")
    scene.shows(counts=False)
