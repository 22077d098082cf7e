"""The laws across reloads: each task is counted once, no increment is missed, no data are lost.

The real exporter reads a simulated cloud, while its configuration changes in every way: instances
come, go, return and get other names; status words, limits and keys change; some reloads fail.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dcs_task_exporter.config.model import Config, parse_config
from dcs_task_exporter.errors import ConfigError
from tests.support.clouds import ACCESS_KEY, SECRET_KEY, exporter_of, scrape, value, world
from tests.support.yaml_texts import load_yaml

IDS = ("i0", "i1", "i2")
NAMES = st.sampled_from(["EXTEND", "DeleteAcl", "unheard-of"])
ENDINGS = st.sampled_from(["SUCCESS", "FAILED", "CANCELLED", "DONE"])
OTHER_KEY = ("TESTAKOTHER0000000Z", "test-sk-of-another-key-0123456789abcdef")
KEYS = {
    "good": (ACCESS_KEY, SECRET_KEY),
    "other": OTHER_KEY,
    "wrong": (ACCESS_KEY, "test-sk-that-was-never-given-to-anybody"),
}
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "concurrency": st.integers(1, 4),
        "requests_per_second": st.sampled_from([500, 10_000]),
        "page_size": st.integers(2, 20),
        "lookback": st.sampled_from(["2d", "7d"]),
        "max_task_names": st.sampled_from([40, 50]),
        "min_refresh_interval": st.sampled_from(["1s", "5s"]),
        "personal_labels": st.booleans(),
        "task_progress": st.booleans(),
    },
)
COUNTER = "dcs_tasks_finished_total"
LOCK = 300.0
ALLOWED_REFUSALS = 5
"""More than so many bad signatures in `LOCK` seconds lock a key."""

Labels = frozenset[tuple[str, str]]


class Reloads(RuleBasedStateMachine):
    """Tasks, scrapes and reloads in any order, and what they must come to."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        logging.disable(logging.CRITICAL)
        self.stack.callback(logging.disable, logging.NOTSET)
        self.here = self.stack.enter_context(world(len(IDS)))
        self.here.cloud.access.add_key(*OTHER_KEY)
        self.watched = {"i0": "i0", "i1": "i1"}
        self.project, self.key, self.has_word = "prod", "good", False
        self.limits: dict[str, Any] = {}
        self.finds = False
        self.active: list[tuple[str, str, str]] = []
        self.ended: dict[str, tuple[str, str, str]] = {}
        self.baseline: set[str] = set()
        self.read: set[str] = set()
        self.last: dict[Labels, float] = {}
        self.total: Counter[tuple[str, str]] = Counter()
        self.refusals: list[tuple[float, float]] = []
        self.exporter = self.stack.enter_context(exporter_of(self.here, self.text()))

    def text(self) -> str:
        """Return the configuration."""
        data = load_yaml(self.here.config_text(collector=self.limits))
        access_key, secret_key = KEYS[self.key]
        (project,) = data["projects"]
        project["name"] = self.project
        project["credentials"] |= {"access_key": access_key, "secret_key": secret_key}
        project["instances"] = [{"id": key, "name": it} for key, it in self.watched.items()]
        if self.finds:
            project["discovery"] = {"enabled": True, "refresh_interval": "1s"}
        if self.has_word:
            data["status_words"] = {"success": ["DONE"]}
        return yaml.safe_dump(data)

    def load(self) -> Config:
        """Return the configuration, parsed."""
        return parse_config(self.text(), "test", {})

    @initialize(history=st.lists(st.tuples(st.sampled_from(IDS), NAMES, ENDINGS), max_size=3))
    def begin(self, history: list[tuple[str, str, str]]) -> None:
        """Tasks that had ended before the exporter started are baseline."""
        for instance, name, status in history:
            self.end_of(instance, self.here.cloud.start_task(instance, name), name, status)
        self.scrape()

    def end_of(self, instance: str, task: str, name: str, status: str) -> None:
        """End a task."""
        self.here.clock.advance(1)
        self.here.cloud.finish_task(instance, task, status)
        self.ended[task] = (instance, name, status)

    @rule(instance=st.sampled_from(IDS), name=NAMES)
    def start(self, instance: str, name: str) -> None:
        """A task starts."""
        self.here.clock.advance(1)
        self.active.append((instance, self.here.cloud.start_task(instance, name), name))

    @precondition(lambda self: self.active)
    @rule(status=ENDINGS, data=st.data())
    def end(self, status: str, data: st.DataObject) -> None:
        """A task ends."""
        at = data.draw(st.integers(0, len(self.active) - 1))
        instance, task, name = self.active.pop(at)
        self.end_of(instance, task, name, status)

    @rule()
    def scrape(self) -> None:
        """Prometheus scrapes: no counter falls."""
        found = scrape(self.exporter, self.here.clock)
        for (metric, labels), now in found.items():
            if metric != COUNTER:
                continue
            named = dict(labels)
            before = self.last.get(labels, now)
            assert now >= before, f"{named} fell"
            series = (named["task_name"], named["status"])
            self.total[series] += int(now - before)
            self.last[labels] = now
        for instance in IDS:
            if value(found, "dcs_instance_up", dcs_instance_id=instance) == 1:
                self.note_read(instance)
        self.check_refusals(
            sum(
                now
                for (metric, labels), now in found.items()
                if metric == "dcs_api_requests_total" and dict(labels)["code"] == "401"
            )
        )

    def note_read(self, instance: str) -> None:
        """What had ended when an instance was read for the first time is baseline."""
        if instance not in self.read:
            self.read.add(instance)
            self.baseline |= {
                task
                for task, (owner, _, status) in self.ended.items()
                if owner == instance and (status != "DONE" or self.has_word)
            }

    def check_refusals(self, number: float) -> None:
        """So few bad signatures do not lock the key, however often we reload."""
        now = self.here.clock.steady
        before = next((it for at, it in reversed(self.refusals) if now - at > LOCK), 0.0)
        assert number - before <= ALLOWED_REFUSALS or self.project != "prod"
        self.refusals.append((now, number))

    def reload(self) -> None:
        """Reload; what stays loses no data."""
        before = {it.instance.id: it for it in self.exporter.refresher.snapshots()}
        self.exporter.reload(self.load)
        for it in self.exporter.refresher.snapshots():
            known = before.get(it.instance.id)
            if known is not None:
                assert it.refreshed_at == known.refreshed_at
                assert (it.metrics is None) == (known.metrics is None)

    @rule(watched=st.dictionaries(st.sampled_from(IDS), st.sampled_from(["a", "b"]), min_size=1))
    def change_instances(self, watched: dict[str, str]) -> None:
        """Instances come, go, and get other names."""
        self.watched = {key: f"{key}-{name}" for key, name in watched.items()}
        self.reload()

    @rule()
    def toggle_discovery(self) -> None:
        """All instances are found, or only the configured ones stay."""
        self.finds = not self.finds
        self.reload()

    @rule()
    def toggle_word(self) -> None:
        """A status gets a meaning, or loses it."""
        self.has_word = not self.has_word
        self.reload()

    @rule(limits=LIMITS)
    def change_limits(self, limits: dict[str, Any]) -> None:
        """The limits change."""
        self.limits = limits
        self.reload()

    @rule(key=st.sampled_from(sorted(KEYS)))
    def change_key(self, key: str) -> None:
        """The key changes, perhaps to a wrong one."""
        self.key = key
        self.reload()

    @rule(number=st.integers(2, 5))
    def reload_again_and_again(self, number: int) -> None:
        """Somebody reloads what has not changed, and scrapes."""
        for _ in range(number):
            self.reload()
            self.scrape()

    @rule(name=st.sampled_from(["prod", "test"]))
    def rename_project(self, name: str) -> None:
        """The project gets another name: its key is not known to be refused any more."""
        if self.key != "wrong":
            self.project = name
            self.refusals.clear()
            self.reload()

    @rule()
    def reload_in_vain(self) -> None:
        """A file with a mistake changes nothing."""
        before = self.exporter.refresher.snapshots()

        def broken() -> Config:
            return parse_config("projects: []", "test", {})

        with pytest.raises(ConfigError):
            self.exporter.reload(broken)
        assert all(a is b for a, b in zip(before, self.exporter.refresher.snapshots(), strict=True))

    def teardown(self) -> None:
        """In the end, what Prometheus saw increase is what happened."""
        try:
            self.watched = {key: key for key in IDS}
            self.key, self.has_word, self.limits = "good", True, {}
            self.reload()
            self.here.clock.advance(400)  # what was refused may be asked again
            for _ in range(4):
                self.scrape()
            expected = Counter(
                (name, status)
                for task, (_, name, status) in self.ended.items()
                if task not in self.baseline
            )
            assert {key: n for key, n in self.total.items() if n} == dict(expected)
        finally:
            self.stack.close()


TestReloads = Reloads.TestCase
TestReloads.settings = settings(
    max_examples=settings().max_examples // 4,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow],
)
