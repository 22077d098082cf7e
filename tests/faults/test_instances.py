"""Discovery that fails or finds nothing, and clocks that are wrong."""

from __future__ import annotations

from typing import Any

from dcs_task_exporter.simulator.faults import json_reply
from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.clouds import ACCESS_KEY, PROJECT, SECRET_KEY, World, hide_instances
from tests.support.fault_rows import fault
from tests.support.fault_scene import Scene
from tests.support.secrets import secret

TOKEN = secret("token-of-a-test-")


def discovering(rules: str = "") -> Any:
    """Return what makes a configuration find its instances, once a minute."""

    def edit(text: str) -> str:
        start, end = text.index("    instances:"), text.index("collector:")
        found = f"    discovery: {{enabled: true, refresh_interval: 1m{rules}}}\n"
        return f"{text[:start]}{found}{text[end:]}"

    return edit


@fault(
    "The instances of a project cannot be listed",
    where="instances and discovery",
    metrics=(
        "dcs_discovery_up = 0",
        "dcs_instance_up = 1",
        'dcs_api_errors_total{operation="list_instances"} rises',
    ),
    log=("warning: discovery cannot list the instances: the last list stays",),
    page=("The instances of project prod cannot be listed:", "The last list stays."),
    alerts=("DCSDiscoveryFailing",),
    recovers="the next search, after `discovery.refresh_interval` (here 1m)",
    within=60,
    causes=("internal", "forbidden", "html_200", "close"),
)
def test_discovery_fails(scene: Scene) -> None:
    """While the instances cannot be listed, those that were found before are watched."""
    scene.begin(edit=discovering())
    scene.cloud.faults.add(scene.reply, operation="list_instances")
    scene.pass_time(45)
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The instances of a project cannot be listed at the start",
    where="instances and discovery",
    metrics=("dcs_discovery_up = 0", "dcs_project_instances_watched = 0"),
    log=("warning: discovery cannot list the instances: none was found before",),
    page=("The instances of project prod cannot be listed:", "No instance is watched"),
    alerts=("DCSDiscoveryFailing", "DCSNoInstanceWatched"),
    recovers="the next search, after 15 s at most",
    within=15,
    causes=("internal", "forbidden"),
)
def test_the_first_search_fails(scene: Scene) -> None:
    """Until a search succeeds there is nothing to watch, and it is soon tried again."""

    def fail(here: World) -> None:
        here.cloud.faults.add(scene.reply, operation="list_instances")

    scene.begin(edit=discovering(), prepare=fail, is_well=False)
    scene.shows(counts=False)
    scene.cloud.faults.clear()
    scene.recovers(counts=False)


@fault(
    "The cloud lists no instance, where some were known",
    where="instances and discovery",
    metrics=("dcs_discovery_up = 0", "dcs_instance_up = 1"),
    log=("warning: discovery cannot list the instances: the last list stays",),
    page=("the answer lists no instance at all", "The last list stays."),
    alerts=("DCSDiscoveryFailing",),
    recovers="the next search that lists some; after an hour of empty lists they count as deleted",
    within=60,
)
def test_an_empty_list(scene: Scene) -> None:
    """A list without any instance is not believed for an hour."""
    scene.begin(edit=discovering())
    hide_instances(scene.here)
    scene.pass_time(45)
    scene.shows()
    scene.cloud.faults.clear()
    scene.recovers()


@fault(
    "The rules of discovery admit no instance",
    where="instances and discovery",
    metrics=("dcs_discovery_up = 1", "dcs_project_instances_watched = 0"),
    log=(
        (
            "warning: discovery finds no instance to watch: of the 2 that the cloud lists, its "
            "rules admit none (include '^none'): check the rules"
        ),
    ),
    page=("discovery finds no instance to watch", "No instance is watched"),
    alerts=("DCSNoInstanceWatched",),
    recovers="the next search that finds one",
)
def test_no_instance_is_admitted(scene: Scene) -> None:
    """That nothing is watched is an outage, and is told."""
    scene.begin(edit=discovering(', include: "^none"'), is_well=False)
    scene.shows(counts=False)


@fault(
    "Most instances of a project are missing from the list at once",
    where="instances and discovery",
    metrics=("dcs_discovery_up = 1", "dcs_instance_up = 1", "dcs_project_instances_watched = 1"),
    log=(
        (
            "warning: 4 of 5 instances left at once: check whether they were deleted, and that the "
            "key may still list all"
        ),
    ),
    page=("4 of 5 instances left at once",),
    alerts=("DCSInstancesLost",),
    recovers="when half of them are back, or after a day",
)
def test_most_instances_leave(scene: Scene) -> None:
    """That most instances leave at once is told."""
    scene.begin(5, edit=discovering())
    listed = scene.cloud.instances()[:1]
    reply = json_reply(200, {"instance_num": 1, "instances": listed})
    scene.cloud.faults.add(reply, operation="list_instances")
    scene.pass_time(45)
    scene.scrape()
    scene.pass_time(45)
    scene.shows()


@fault(
    "A row of the list of instances cannot be read",
    where="instances and discovery",
    metrics=("dcs_discovery_up = 1", "dcs_instance_up = 1"),
    log=("warning: the listing of instances has a row that cannot be read: it is left out",),
    recovers="not needed: all other rows are read",
)
def test_an_odd_instance(scene: Scene) -> None:
    """An instance without an id is left out, and that is logged once."""
    scene.begin(edit=discovering())
    scene.cloud.add_instance(PROJECT, "", "nameless")
    scene.pass_time(45)
    scene.shows()


def with_a_token(scene: Scene) -> None:
    """Begin with a token: the cloud refuses a signature by a wrong clock."""
    key = f"      access_key: {ACCESS_KEY}\n      secret_key: {SECRET_KEY}\n"
    scene.begin(
        edit=lambda text: text.replace(key, f"      token: {TOKEN}\n").replace(
            "type: access_key", "type: token"
        ),
        prepare=lambda here: here.cloud.access.add_token(TOKEN),
    )


@fault(
    "The clock of this machine is more than 15 minutes ahead of the cloud's",
    where="clock",
    metrics=("dcs_clock_in_doubt = 1", "dcs_instance_up = 1"),
    log=("warning: this machine's clock is in doubt: nothing is forgotten until it is right",),
    page=("The clock of this machine is", "ahead of the cloud's", "set it right"),
    recovers="the next scrape after the clock is right; an access key is refused meanwhile (401)",
    within=15,
)
def test_a_clock_that_is_ahead(scene: Scene) -> None:
    """A clock that is ahead is told, and the cloud's time is used."""
    with_a_token(scene)
    scene.set_clock(86_400)
    scene.shows()
    scene.set_clock(0)
    scene.recovers()


@fault(
    "The clock of this machine is more than 15 minutes behind the cloud's",
    where="clock",
    metrics=("dcs_clock_in_doubt = 1", "dcs_instance_up = 1"),
    log=("warning: this machine's clock is in doubt: nothing is forgotten until it is right",),
    page=("The clock of this machine is", "behind the cloud's", "set it right"),
    alerts=("DCSDataStale",),
    recovers="the next scrape after the clock is right; an access key is refused meanwhile (401)",
    within=15,
)
def test_a_clock_that_is_behind(scene: Scene) -> None:
    """A clock that is behind is told; by the clock of Prometheus its times are old."""
    with_a_token(scene)
    scene.set_clock(-86_400)
    scene.shows()
    scene.set_clock(0)
    scene.recovers()


@fault(
    "The clock of this machine jumps, and the cloud sends no `Date`",
    where="clock",
    metrics=("dcs_clock_in_doubt = 1", "dcs_instance_up = 1"),
    log=("warning: this machine's clock is in doubt: nothing is forgotten until it is right",),
    page=("The clock of this machine is", "the monotonic clock since the start"),
    recovers="the next scrape after the clock is right, or after a restart",
    within=15,
)
def test_a_clock_that_jumps(scene: Scene) -> None:
    """Without the cloud's time, the clock is compared with the monotonic one."""
    scene.begin(quirks=Quirks(date=False, max_skew=float("inf")))
    scene.set_clock(86_400)
    scene.shows()
    scene.set_clock(0)
    scene.recovers()
