"""What a reload keeps as it is, what it takes anew, and what ends with it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcs_task_exporter.config.model import CollectorConfig, parse_config
from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.metrics.exposition import ScrapeRequest
from dcs_task_exporter.simulator.server import CloudServer
from tests.support.clouds import (
    ACCESS_KEY,
    SECRET_KEY,
    Samples,
    World,
    exporter_of,
    scrape,
    value,
    world,
)
from tests.support.yaml_texts import load_yaml

COUNTER = "dcs_tasks_finished_total"
FAILED = {"task_name": "EXTEND", "status": "FAILED", "dcs_instance_id": "i0"}


@dataclass
class Scene:
    """An exporter of two instances, and its configuration as plain data."""

    here: World
    exporter: Exporter
    data: dict[str, Any]
    opened: list[object]

    @property
    def project(self) -> dict[str, Any]:
        """The section of the only project."""
        project: dict[str, Any] = self.data["projects"][0]
        return project

    def reload(self, **collector: object) -> None:
        """Use the data as they are now, with these keys of `collector`."""
        self.data["collector"] |= collector
        text = yaml.safe_dump(self.data)
        self.exporter.reload(lambda: parse_config(text, "test", {}))

    def scrape(self) -> Samples:
        """Scrape, a scrape interval later."""
        return scrape(self.exporter, self.here.clock)

    def fail_a_task(self) -> None:
        """Let a task fail."""
        self.here.cloud.finish_task("i0", self.here.cloud.start_task("i0", "EXTEND"), "FAILED")

    def watched(self) -> Mapping[str, str]:
        """Return the names of the watched instances by their ids."""
        snapshots = self.exporter.refresher.snapshots()
        return {it.instance.id: it.instance.name for it in snapshots}

    def labels(self) -> set[str]:
        """Return all values of the label `project`."""
        return {dict(labels).get("project", "") for _, labels in self.scrape()} - {""}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    opened: list[object] = []
    finish = CloudServer.finish_request

    def noted(self: CloudServer, request: Any, address: Any) -> None:
        opened.append(address)
        finish(self, request, address)

    monkeypatch.setattr(CloudServer, "finish_request", noted)
    # One at a time, else the number of connections is a matter of chance.
    with world(2) as here, here.exporter(concurrency=1) as exporter:
        text = here.config_text(collector={"concurrency": 1})
        made = Scene(here, exporter, load_yaml(text), opened)
        made.scrape()
        yield made


def test_data_and_connections_stay(scene: Scene) -> None:
    """What is configured as before goes on: the client, its connections, the snapshots."""
    clients = dict(scene.exporter.clients)
    snapshots = scene.exporter.refresher.snapshots()
    opened = len(scene.opened)
    scene.reload()
    scene.scrape()

    assert scene.exporter.clients == clients
    assert len(scene.opened) == opened
    scene.reload(max_staleness="2h", first_value_hold="5s", tag_labels=["team"])
    again = scene.exporter.refresher.snapshots()
    assert scene.exporter.clients == clients
    assert [one.instance for one in again] == [one.instance for one in snapshots]
    assert all(one.metrics is not None for one in again)


def test_connections_outlive_a_key(scene: Scene) -> None:
    """Another key, or another rate, uses the connections that are open."""
    scene.here.cloud.access.add_key("TESTAKOTHER0000000Z", "another-secret-key")
    credentials = scene.project["credentials"]
    credentials |= {"access_key": "TESTAKOTHER0000000Z", "secret_key": "another-secret-key"}
    opened = len(scene.opened)
    scene.reload(requests_per_second=5_000, retries=1)
    found = scene.scrape()

    assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 1
    assert len(scene.opened) == opened


def test_counts_stay(scene: Scene) -> None:
    """A count survives reloads, also of an instance that left and came back."""
    scene.fail_a_task()
    scene.scrape()
    both = scene.project["instances"]
    scene.project["instances"] = both[1:]
    scene.reload()
    gone = scene.scrape()
    scene.fail_a_task()
    scene.project["instances"] = both
    scene.reload()
    found = [value(scene.scrape(), COUNTER, **FAILED) for _ in range(3)]

    assert value(gone, COUNTER, **FAILED) is None
    assert (found[0], found[-1]) == (1, 2)


def test_an_old_name_counts_nothing_twice(scene: Scene) -> None:
    """Named as before again, the series goes on where it ended: Prometheus saw the rest already."""
    rows = scene.project["instances"]
    scene.scrape()
    rows[0]["name"] = "other"
    scene.reload()
    scene.scrape()
    scene.fail_a_task()
    other = [value(scene.scrape(), COUNTER, **FAILED) for _ in range(3)][-1]
    rows[0]["name"] = "cache-0"
    scene.reload()
    back = value(scene.scrape(), COUNTER, **FAILED)
    scene.fail_a_task()
    later = [value(scene.scrape(), COUNTER, **FAILED) for _ in range(3)][-1]

    assert (other, back, later) == (1, 0, 1)


def test_an_old_name_after_a_restart(tmp_path: Path) -> None:
    """The state file knows what was seen under which name."""
    with world(1) as here:
        state = f"state: {{path: {tmp_path}/state.db}}\n"
        texts = [f"{here.config_text().replace('cache-0', name)}{state}" for name in ("a", "b")]
        seen: list[float | None] = []
        for text in (texts[0], texts[1], texts[0], texts[0]):
            with exporter_of(here, text) as exporter:
                seen.append(value(scrape(exporter, here.clock), COUNTER, **FAILED))
                here.cloud.finish_task("i0", here.cloud.start_task("i0", "EXTEND"), "FAILED")
                found = [value(scrape(exporter, here.clock), COUNTER, **FAILED) for _ in range(3)]
                seen.append(found[-1])

    assert seen == [0, 1, 1, 2, 1, 2, 2, 3]


def test_an_answer_that_arrives_late(scene: Scene) -> None:
    """What a scraper was sent under the old name, after it had ended, is not shown again."""
    scene.scrape()
    scene.fail_a_task()
    scene.exporter.fleet.refresh_and_wait(20)
    scene.here.clock.advance(15)
    scene.exporter.fleet.refresh_and_wait(20)
    under_way = scene.exporter.refresher.snapshots()
    scene.project["instances"][0]["name"] = "other"
    scene.reload()
    first = value(scene.scrape(), COUNTER, **FAILED)
    scene.exporter.refresher.delivered(under_way)
    later = [value(scene.scrape(), COUNTER, **FAILED) for _ in range(3)]

    (sent,) = [it.metrics for it in under_way if it.instance.id == "i0"]
    assert sent is not None
    assert sent.finished["EXTEND", "FAILED"] == 1
    assert (first, later) == (0, [0, 0, 0])


def test_names_and_words_are_taken(scene: Scene) -> None:
    """Names of instances and status words hold from the next scrape on, without a new listing."""
    scene.here.cloud.start_task("i0", "EXTEND", "DONE")
    before = scene.scrape()
    scene.project["instances"][0]["name"] = "orders"
    scene.data["status_words"] = {"success": ["DONE"]}
    scene.reload()
    found = [scene.scrape() for _ in range(3)][-1]

    named = {"dcs_instance_name": "orders", "task_name": "EXTEND"}
    active = {"dcs_instance_id": "i0", "task_name": "EXTEND"}
    assert value(before, "dcs_tasks_active", **active) == 1
    assert value(found, "dcs_tasks_active", **active) == 0
    assert value(found, COUNTER, status="DONE", **named) == 1


def test_labels_are_taken(scene: Scene) -> None:
    """Labels that the configuration adds are on the next scrape, and the others stay away."""
    scene.here.cloud.start_task("i0", "EXTEND")
    scene.scrape()
    scene.reload(personal_labels=True, tag_labels=["team"])
    shown = scene.scrape()
    scene.reload(personal_labels=False, tag_labels=[])
    hidden = scene.scrape()

    def names(found: Samples, metric: str) -> set[str]:
        return {key for name, labels in found if name == metric for key, _ in labels}

    assert "user_name" in names(shown, "dcs_task_last_info")
    assert "tag_team" in names(shown, "dcs_instance_info")
    assert "user_name" not in names(hidden, "dcs_task_last_info")
    assert "tag_team" not in names(hidden, "dcs_instance_info")


def test_a_project_comes_and_goes(scene: Scene) -> None:
    """A new project is read at once; all series of one that left end."""
    second = {**scene.project, "name": "second", "instances": [{"id": "i1"}]}
    scene.project["instances"] = [{"id": "i0"}]
    scene.data["projects"].append(second)
    scene.reload()
    both = scene.labels()
    found = scene.scrape()
    scene.data["projects"] = [second]
    scene.reload()

    assert both == {"prod", "second"}
    assert value(found, "dcs_instance_up", project="second", dcs_instance_id="i1") == 1
    assert scene.labels() == {"second"}


def test_threads_end_with_their_project(scene: Scene) -> None:
    """The threads of projects that left, of searches that were replaced, and too many, end."""
    rows = scene.project["instances"]
    for number in range(5):
        scene.project["name"] = f"p{number}"
        scene.project["discovery"] = {"enabled": True, "include": f"c|{number}"}
        scene.project["instances"] = rows[number % 2 :]
        scene.reload(concurrency=1 + number % 3, task_progress=bool(number % 2))
        scene.scrape()
    left = [it for it in threading.enumerate() if re.search(r"\bp[0-3]\b", it.name)]

    assert not [thread.name for thread in left if not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    """Whether a thread ends now; it may have been told so a moment ago."""
    thread.join(10)
    return not thread.is_alive()


def test_a_search_begins_where_the_last_one_ended(scene: Scene) -> None:
    """Other rules of discovery drop what they do not admit; nothing else leaves for a moment."""
    scene.project["discovery"] = {"enabled": True}
    scene.project.pop("instances")
    scene.reload()
    scene.scrape()
    scene.here.cloud.faults.add("internal", operation="list_instances")
    scene.project["discovery"]["include"] = "cache-[01]"
    scene.reload()
    same = scene.watched()
    scene.project["discovery"]["include"] = "cache-1"
    scene.reload()

    assert set(same) == {"i0", "i1"}
    assert set(scene.watched()) == {"i1"}


def test_new_rules_are_searched_by_at_once(scene: Scene) -> None:
    """The first search under new rules does not wait for the interval of the old ones."""
    scene.project["discovery"] = {"enabled": True, "include": "cache-1", "refresh_interval": "1h"}
    scene.project.pop("instances")
    scene.reload()
    scene.scrape()
    scene.project["discovery"]["include"] = "cache"
    scene.reload()
    scene.scrape()
    for discovery in scene.exporter.fleet.discoveries:
        if (search := discovery.search()) is not None:
            search.result(10)

    assert set(scene.watched()) == {"i0", "i1"}


def test_a_mended_key_is_tried_at_once(scene: Scene) -> None:
    """A key that was refused, and is good again, is tried after a reload, not after 5 minutes."""
    scene.here.cloud.access.revoke(ACCESS_KEY)
    refused = scene.scrape()
    scene.here.cloud.access.add_key(ACCESS_KEY, SECRET_KEY)
    still = scene.scrape()
    scene.reload()
    mended = [scene.scrape() for _ in range(2)][-1]

    up = [value(found, "dcs_instance_up", dcs_instance_id="i0") for found in (refused, still)]
    assert up == [0, 0]
    for instance in ("i0", "i1"):
        assert value(mended, "dcs_instance_up", dcs_instance_id=instance) == 1


def test_a_changed_key_is_tried_at_once(scene: Scene, tmp_path: Path) -> None:
    """A key whose file has changed is tried at the next scrape, without a reload."""
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    scene.project["credentials"].pop("secret_key")
    scene.project["credentials"]["secret_key_file"] = str(secret)
    scene.reload()
    refused = scene.scrape()
    secret.write_text(SECRET_KEY)
    mended = scene.scrape()

    up = [value(it, "dcs_instance_up", dcs_instance_id="i0") for it in (refused, mended)]
    assert up == [0, 1]


def test_reloads_do_not_lock_a_key(scene: Scene) -> None:
    """Law 5: with a wrong key, fifty reloads in four minutes send at most five bad signatures."""
    scene.project["credentials"]["secret_key"] = "wrong"
    before = len(scene.here.cloud.requests)
    for _ in range(50):
        scene.reload()
        scrape(scene.exporter)
        scene.here.clock.advance(5)

    assert len(scene.here.cloud.requests) - before <= 5


def test_a_failure_changes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a client cannot be made, everything is as it was: no half of a reload happens."""
    before = (scene.exporter.config, dict(scene.exporter.clients), scene.watched())
    second = {**scene.project, "name": "second", "instances": [{"id": "i9"}]}
    scene.data["projects"].append(second)
    monkeypatch.setattr("dcs_task_exporter.wiring.Transport", None)
    scene.project["instances"] = [{"id": "i0", "name": "other"}]
    with pytest.raises(TypeError):
        scene.reload(timeout="3s")

    assert (scene.exporter.config, dict(scene.exporter.clients), scene.watched()) == before
    assert value(scene.scrape(), "dcs_instance_up", dcs_instance_name="cache-0") == 1


def test_a_mistake_changes_nothing(scene: Scene) -> None:
    """A configuration with a mistake leaves everything as it was, and the metric says so."""
    scene.data["collectr"] = {}
    with pytest.raises(ConfigError):
        scene.reload()

    assert set(scene.watched().values()) == {"cache-0", "cache-1"}
    failed = value(scene.scrape(), "dcs_task_exporter_config_last_reload_successful")
    assert failed == 0


def test_background_refresh_comes_and_goes(scene: Scene) -> None:
    """An interval to refresh without scrapes begins, changes and ends with a reload."""

    def refreshing() -> bool:
        return any(it.name == "refresh" for it in threading.enumerate())

    scene.exporter.fleet.start()
    before = refreshing()
    scene.reload(refresh_interval="1s")
    while_on = refreshing()
    scene.reload(refresh_interval="0s")

    assert (before, while_on) == (False, True)
    assert all(_ends(it) for it in threading.enumerate() if it.name == "refresh")


def test_numbers_of_answers_go_on(scene: Scene) -> None:
    """Law 3: an answer after a reload has a higher number than all before."""
    first = scene.exporter.renderer.exposition(ScrapeRequest()).number
    scene.reload(tag_labels=["team"])

    assert scene.exporter.renderer.exposition(ScrapeRequest()).number > first


def test_every_key_is_taken() -> None:
    """A reload takes each key of `collector`: a new one is named here when `_use` passes it on."""
    of_clients = {"retries", "page_size", "max_pages", "start_parameter", "personal_labels"}
    of_routes = {"timeout", "concurrency"}
    of_limits = {"requests_per_second"}
    of_counting = {"lookback", "max_task_names"}
    of_refresh = {"min_refresh_interval", "max_staleness", "task_progress", "refresh_interval"}
    of_scrapes = {"scrape_timeout_offset", "default_scrape_timeout"}
    of_metrics = {"first_value_hold", "tag_labels"}
    taken = of_clients | of_routes | of_limits | of_counting | of_refresh | of_scrapes | of_metrics

    assert set(CollectorConfig.model_fields) == taken
