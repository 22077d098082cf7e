"""What the targets of the files begin with: the good and bad files of the tests."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

from dcs_task_exporter.state.encoding import encode
from dcs_task_exporter.state.schema import APPLICATION_ID, CREATE, VERSION
from dcs_task_exporter.tasks.counting import CountingRules, count_new
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Listing, Task
from fuzz.checks import NOW, SECRET

_ROOT: Final = Path(__file__).parent.parent
_TESTDATA: Final = _ROOT / "tests" / "testdata"

_WITH_SECRETS: Final = f"""
projects:
  - name: prod
    region: cn-north-4
    endpoint: https://dcs.example.com/{SECRET}
    proxy_url: http://user:{SECRET}@proxy.example.com:3128
    credentials: {{type: access_key, access_key: {SECRET}, secret_key: "{SECRET}"}}
    instances: [{{id: {SECRET}, name: "{SECRET}"}}]
  - name: {SECRET}
    credentials: {{type: token, token: ${{SECRET}}}}
    discovery: {{enabled: true, include: "{SECRET}(", tags: {{{SECRET}: {SECRET}}}}}
collector: {{lookback: {SECRET}, {SECRET}: 7, tag_labels: [{SECRET}]}}
status_words: {{failure: [{SECRET}]}}
"""
_GOOD: Final = """
projects:
  - &a
    name: ${NAME}
    region: cn-north-4
    project_id: 0123abcd
    credentials: {type: environment}
    instances: [{id: i0, name: orders}]
    discovery: {enabled: true, refresh_interval: 1m, include: "^prod", tags: {team: a}}
    task_center: {enabled: true}
  - {<<: *a, name: other, instances: [{id: i1}], tls: {insecure_skip_verify: true}}
collector: {lookback: 7d, max_staleness: 1h30m, concurrency: 8, requests_per_second: 0.5,
            tag_labels: [team], start_parameter: both, task_progress: true}
status_words: {failure: [BROKEN], ended: [GONE]}
"""


def _configurations() -> tuple[bytes, ...]:
    files = sorted((_TESTDATA / "config").glob("*.yaml"))
    example = (_ROOT / "config.example.yaml").read_bytes()
    own = _WITH_SECRETS.encode(), _GOOD.encode()
    return *own, example, *(path.read_bytes() for path in files)


def _states() -> tuple[InstanceState, ...]:
    rules = CountingRules(3600.0)
    details = TaskDetails(old_capacity=0.5, new_capacity=8.0, rename_commands=("KEYS",))
    before = Listing((Task("a", "EXTEND", "SUCCESS", NOW - 900, NOW - 800),), NOW - 3600)
    after = Listing(
        (
            Task("b", "EXTEND", "FAILED", NOW - 700, NOW - 600, details, error_code="E1"),
            Task("c", "odd", "RUNNING", NOW - 500),
            Task("d", "odd", "CANCELLED"),
        ),
        NOW - 3600,
    )
    first = count_new(InstanceState(), before, NOW - 750, rules)[0]
    second = reveal(count_new(first, after, NOW - 450, rules)[0], ())
    third = count_new(second, before, NOW - 400, rules)[0]
    return InstanceState(), first, second, third


def _rows() -> tuple[bytes, ...]:
    return tuple(
        json.dumps(
            {
                "state": json.loads(encode(state)),
                "refreshed_at": state.refreshed_at,
                "counted": {key: at if at < NOW else 1e300 for key, at in state.counted.items()},
            }
        ).encode()
        for state in _states()
    )


@cache
def _databases() -> tuple[bytes, ...]:
    """Return a small database, one with a log beside it, and those of earlier versions."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "state.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(f"PRAGMA page_size = 512; {CREATE}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            _fill(connection, _states()[1])
            whole = path.read_bytes()
            connection.execute("PRAGMA journal_mode = WAL")
            _fill(connection, _states()[2])
            log = path.with_name("state.db-wal").read_bytes()
            logged = path.read_bytes() + b"\n---\n" + log
        early = (path.read_bytes() for path in sorted((_TESTDATA / "state").glob("version-*.db")))
        return b"", whole, logged, *early


def _fill(connection: sqlite3.Connection, state: InstanceState) -> None:
    row = ("i", 0.0, state.refreshed_at, encode(state))
    connection.execute("INSERT OR REPLACE INTO instance_state VALUES (?, ?, ?, ?)", row)
    connection.executemany(
        "INSERT OR REPLACE INTO counted VALUES ('i', ?, ?)", state.counted.items()
    )


FILE_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "configuration": _configurations(),
    "key_file": (SECRET.encode(), f"{SECRET}\n".encode(), f" {SECRET}\r\n".encode(), b"", b"a b"),
    "state_rows": _rows(),
    "state_file": _databases(),
}
"""The first inputs by target."""
