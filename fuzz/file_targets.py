"""The files that the exporter reads, as functions of bytes: configuration, keys, the state."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any, Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.signing import authorization
from dcs_task_exporter.config.model import Config, load_config
from dcs_task_exporter.config.secrets import read_secret
from dcs_task_exporter.errors import ConfigError, CredentialsError
from dcs_task_exporter.logs.formats import JsonFormatter, LogfmtFormatter
from dcs_task_exporter.state.database import UnusableStateError, read_state, write_changes
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.state.schema import CREATE
from dcs_task_exporter.tasks.counting import CountingRules, count_new
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from dcs_task_exporter.wiring import counting_rules
from fuzz.checks import NOW, SECRET, StrictLog, Target, expect, expect_plain, folder, logged, page
from fuzz.words import ODD_WORDS, STATE_WORDS, YAML_WORDS

ENVIRON: Final = {"NAME": "name", "SECRET": SECRET, "EMPTY": ""}
INSTANCE: Final = Instance("i", "cache", "p")
LISTING: Final = Listing(
    (
        Task("t1", "EXTEND", "SUCCESS", NOW - 60, NOW - 30),
        Task("t2", "odd", "FAILED", NOW - 50, NOW - 20),
        Task("t3", "EXTEND", "EXECUTING", NOW - 10),
    ),
    NOW - 3600,
)
RULES: Final = CountingRules(3600.0)


def configuration(data: bytes) -> Sequence[bytes]:
    """Load a configuration file, and use what needs no network."""
    path = folder() / "config.yml"
    path.write_bytes(data)
    (folder() / "secret").write_text(SECRET)
    try:
        config = load_config(path, ENVIRON)
    except ConfigError as error:
        check_problems(error)
        return ()
    _check_config(config)
    return ()


def check_problems(error: ConfigError) -> None:
    """Expect each mistake in plain words, without the values."""
    expect(error.problems, "refused without a reason")
    expect_plain(str(error), repr(error))
    expect(str(error).isprintable() or "\n" in str(error), "a message that is not printable")
    shown = "".join(str(problem) for problem in error.problems)
    expect(shown.isprintable(), "a problem that is not printable")
    before = error.__cause__ or error.__context__
    expect_plain(repr(before), str(before))


def _check_config(config: Config) -> None:
    for project in config.projects:
        expect_plain(repr(project.credentials), repr(project.proxy_url))
    counting_rules(config)
    for _, value in config.collector:
        expect(not isinstance(value, float) or math.isfinite(value), f"a setting of {value}")
    names = [project.name for project in config.projects]
    expect(len(set(names)) == len(names), "two projects of one name")
    for project in config.projects:
        f"{project.dcs_endpoint}{project.iam_url}{project.region_doubt}".encode("ascii")


def key_file(data: bytes) -> Sequence[bytes]:
    """Read a file that holds a secret, and put the secret into a header."""
    path = folder() / "key"
    path.write_bytes(data)
    try:
        secret = read_secret(path)
    except CredentialsError as error:
        expect_plain(str(error), repr(error))
        expect(error.__cause__ is None and error.__context__ is None, "an error with its bytes")
        return ()
    expect(secret == data.decode().strip(), "another secret than the file's")
    header = authorization(secret, {"Host": "x"}, "0" * 64)
    expect(header.isprintable() and header.isascii(), "a header that cannot be sent")
    return ()


def state_rows(data: bytes) -> Sequence[bytes]:
    """Read the rows of one instance, count with them, save and read them again, and show them."""
    with suppress(ValueError, RecursionError):
        rows = json.loads(data)
        return _rows_shown(rows) if isinstance(rows, dict) else ()
    return ()


def _rows_shown(rows: dict[str, Any]) -> Sequence[bytes]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in CREATE.split(";"):
            connection.execute(statement)
        try:
            _insert(connection, rows)
        except (OverflowError, UnicodeEncodeError, sqlite3.Error):
            return ()  # no file can hold that
        try:
            state = read_state(connection, INSTANCE.id)
        except UnusableStateError as error:
            str(error).encode()
            return ()
        if state is None:
            return ()
        counted, _ = count_new(state, LISTING, NOW, RULES)
        counted = reveal(counted, counted.shown)
        write_changes(connection, {INSTANCE.id: (state, counted)}, 1.0)
        expect(read_state(connection, INSTANCE.id) == counted, "a state that changes when saved")
        _check_counts(state, counted)
    metrics = task_metrics(counted, LISTING, NOW, RULES)
    return (page([Snapshot(INSTANCE, up=True, metrics=metrics, refreshed_at=NOW)]),)


def _insert(connection: sqlite3.Connection, rows: dict[str, Any]) -> None:
    state = rows.get("state")
    text = state if isinstance(state, str) else json.dumps(state)
    connection.execute(
        "INSERT INTO instance_state VALUES (?, ?, ?, ?)",
        (INSTANCE.id, 0.0, _plain(rows.get("refreshed_at")), text),
    )
    counted = rows.get("counted")
    for task, at in counted.items() if isinstance(counted, dict) else ():
        connection.execute("INSERT INTO counted VALUES (?, ?, ?)", (INSTANCE.id, task, _plain(at)))


def _plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _check_counts(before: InstanceState, after: InstanceState) -> None:
    for series, number in before.counts.items():
        expect(after.counts[series] >= number, "a counter that fell")
    for number in (*after.counts.values(), *after.shown.values()):
        expect(number >= 0 and math.isfinite(number), f"a count of {number}")


def state_file(data: bytes) -> Sequence[bytes]:
    """Open a state file, count and save, and open it again: what was saved is there."""
    own = folder() / "state"
    own.mkdir(exist_ok=True)
    for path in own.iterdir():
        path.unlink()
    path = own / "state.db"
    database, _, log = data.partition(b"\n---\n")
    path.write_bytes(database)
    if log:
        path.with_name("state.db-wal").write_bytes(log)
    clock = Clock(now=lambda: NOW, monotonic=lambda: 1000.0)
    with logged(_NoErrors()):
        file = StateFile(path, clock)
        file.latest_refresh()
        state, _ = count_new(file.load(INSTANCE.id), LISTING, NOW, RULES)
        file.save(INSTANCE.id, state)
        file.hand_over("other")
        problem = file.status.problem
        file.close()
        again = StateFile(path, clock)
        found = again.load(INSTANCE.id)
        again.close()
    expect_plain(problem)
    expect(again.status.errors == 0, f"the second start has a problem: {again.status.problem}")
    expect(found == state, "another state than was saved")
    return ()


class _NoErrors(StrictLog):
    """A file that is set aside is told as an error without an exception, and is none here."""

    def emit(self, record: logging.LogRecord) -> None:
        """Look at the line alone, unless it has a traceback."""
        if record.exc_info:
            super().emit(record)
        else:
            expect_plain(JsonFormatter().format(record), LogfmtFormatter().format(record))


FILE_TARGETS: Final = (
    Target("configuration", configuration, "text", YAML_WORDS, 1.0),
    Target("key_file", key_file, "text", ODD_WORDS),
    Target("state_rows", state_rows, "json", STATE_WORDS),
    Target("state_file", state_file, "bytes", STATE_WORDS),
)
