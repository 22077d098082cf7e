"""The soak: an exporter that runs for an hour as a process must neither grow nor miscount.

It is scraped every second, looks back five minutes, and watches two simulated clouds whose tasks
start, end and are deleted all the time. One answer in ten is a fault. The configuration is
rewritten and reloaded every minute, now and then with a mistake in it; the keys change every four
minutes. In the end each task must have been counted once, and memory, threads, descriptors and
state file must be what they were after 25 minutes.
"""

from __future__ import annotations

import http.client
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.ledger import Ledger, Page
from bench.process_size import Size, growth, line, size_of, summary
from bench.soak_play import Play
from bench.soak_reloads import Outcomes, Reloads
from bench.soak_scene import Scene
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.simulator.server import CloudServer
from tests.support.real_process import process

PARTS: Final = 12
"""Reports of a run: of an hour, one every five minutes."""

SETTLED_PART: Final = 5
"""The part after which nothing may grow: of an hour, after 25 minutes."""

JUDGED_FROM: Final = 60.0
"""Minutes of a run in which growth is a failure: a shorter one has not yet begun to forget."""

RELOAD_INTERVAL: Final = 60.0
ROTATION_INTERVAL: Final = 240.0
INTERVAL: Final = 1.0
PATIENCE: Final = 120
"""Scrapes within which all instances must be read, and all counted, when nothing fails."""

TIMEOUT: Final = 10.0
HEADERS: Final = {"X-Prometheus-Scrape-Timeout-Seconds": f"{INTERVAL:g}"}

Say = Callable[[str], object]


@dataclass(slots=True)
class Result:
    """What came of a run."""

    ledger: Ledger = field(default_factory=Ledger)
    reloads: Outcomes = field(default_factory=Outcomes)
    sizes: list[Size] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    rotations: int = 0
    requests: float = 0.0
    errors: float = 0.0
    cpu: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled, leaked or broken."""
        return self.ledger.agrees and self.reloads.good and not self.problems

    def report(self) -> Iterator[str]:
        """Yield the result in sentences."""
        yield f"{len(self.sizes)} scrapes, the slowest took {self.slowest:.2f} s"
        yield (
            f"{self.requests:.0f} requests, {self.errors:.0f} of them failed; "
            f"{self.rotations} rotations of keys; {self.reloads.report()}"
        )
        yield f"the exporter used {self.cpu:.0f} s of processor time"
        yield from self.ledger.report()
        yield from (f"  problem: {text}" for text in self.problems)


class Soak:
    """One run: what is done to the exporter, and what is seen of it; used by one thread."""

    def __init__(self, scene: Scene, started: subprocess.Popen[bytes], port: int) -> None:
        self.result = Result()
        self._scene = scene
        self._process = started
        self._scraper = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._plays = {
            name: Play(cloud, scene.random, self.result.ledger)
            for name, cloud in scene.clouds.items()
        }
        self._reloads = Reloads(scene, self._plays, lambda: started.send_signal(signal.SIGHUP))
        self.result.reloads = self._reloads.outcomes
        self._rotation: Iterator[None] = iter(())
        self._up: Mapping[str, float] = {}
        self._seen_at: Mapping[str, float] = {}
        self._marks: dict[int, Size] = {}

    def run(self, seconds: float, say: Say) -> None:
        """Let `seconds` pass, then end everything."""
        for name, cloud in self._scene.clouds.items():
            found = [str(row["instance_id"]) for row in cloud.instances()]
            self._plays[name].remember(found, time.time())
        self._wait_until(self._all_are_up)
        self._scene.switch_on_faults()
        every = seconds / PARTS
        reloads = _Timer(min(RELOAD_INTERVAL, every))
        rotations = _Timer(min(ROTATION_INTERVAL, 2 * every))
        parts = _Timer(every)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._second()
            self._play()
            if rotations.rings():
                self._rotate()
                self._scene.switch_on_faults()  # the answers that hang end
            elif reloads.rings():
                self._reloads.next(self._seen_at, time.time())
            if parts.rings():
                self._mark(every, say)
        self._mark(every, say)
        self._finish()
        grown = growth(self._marks[SETTLED_PART], self._marks[max(self._marks)])
        if seconds >= JUDGED_FROM * 60:
            self.result.problems += grown

    def close(self) -> None:
        """Close the connection to the exporter."""
        self._scraper.close()

    def _mark(self, every: float, say: Say) -> None:
        """Note and print the sizes of the last minute."""
        part = len(self._marks) + 1
        if part <= PARTS:
            self._marks[part] = summary(self.result.sizes[-min(60, int(every)) :])
            say(line(part * every / 60, self._marks[part]))

    def _second(self) -> None:
        """Scrape, and compare; return a second after the call."""
        began = time.monotonic()
        page = Page(self._scrape())
        self.result.slowest = max(self.result.slowest, time.monotonic() - began)
        self.result.ledger.scraped(page)
        self._reloads.seen(page, time.time())
        self._up = page.by_instance("dcs_instance_up")
        self._seen_at = page.by_instance("dcs_instance_last_refresh_timestamp_seconds")
        self.result.requests = page.total("dcs_api_requests_total")
        self.result.errors = page.total("dcs_api_errors_total")
        self.result.cpu = page.value("process_cpu_seconds_total") or 0.0
        self.result.sizes.append(size_of(self._process.pid, self._scene.state))
        next(self._rotation, None)
        time.sleep(max(0.0, INTERVAL - (time.monotonic() - began)))

    def _scrape(self) -> str:
        """Return the metrics; a scrape that fails is a problem."""
        try:
            self._scraper.request("GET", "/metrics", headers=HEADERS)
            answer = self._scraper.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self._scraper.close()
            self.result.problems.append(f"a scrape failed: {error!r}")
            return ""
        if answer.status != http.client.OK:
            self.result.problems.append(f"a scrape was answered with {answer.status}")
            return ""
        if any(secret in text for secret in self._scene.secrets):
            self.result.problems.append("a scrape shows a secret")
        return text

    def _play(self) -> None:
        now = time.time()
        for name, play in self._plays.items():
            # Read at least once: what ends before that is baseline.
            known = {key for key in self._seen_at if key in self._scene.instances(name)}
            play.delete_seen(self._seen_at)
            play.step(known - self._reloads.leaving, now)

    def _rotate(self) -> None:
        for _ in self._rotation:  # the one before, if it is not through
            pass
        self._rotation = self._scene.rotation()
        self.result.rotations += 1

    def _finish(self) -> None:
        """End all tasks, let nothing fail, and wait until all are counted."""
        self._scene.switch_off_faults()
        for play in self._plays.values():
            play.end_all(time.time())
        self._rotate()  # a key that was refused would be held back for five minutes
        self._wait_until(lambda: self._all_are_up() and self.result.ledger.agrees)

    def _all_are_up(self) -> bool:
        # Without reloads, the list of instances is that of the start.
        watched = self._scene.watched if self.result.reloads.taken else set(self._up)
        return bool(self._up) and set(self._up) == watched and all(self._up.values())

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(PATIENCE):
            self._second()
            if condition():
                return
        down = sorted(self._scene.watched - {key for key, up in self._up.items() if up})
        self.result.problems.append(f"not all was read and counted: not up are {down}")


class _Timer:
    """Rings each time that an interval has passed."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = time.monotonic() + interval

    def rings(self) -> bool:
        """Return whether it is time."""
        if time.monotonic() < self._next:
            return False
        self._next += self._interval
        return True


def run(folder: Path, seconds: float, seed: int, say: Say) -> Result:
    """Run an exporter as a process over two clouds, and return the result."""
    with ExitStack() as running:
        scene = Scene(folder, time.time, seed)
        for name, cloud in scene.clouds.items():
            scene.urls[name] = running.enter_context(CloudServer(cloud)).url
        scene.write_config()
        port = free_port()
        log = folder / "exporter.log"
        command = [
            sys.executable,
            "-m",
            "dcs_task_exporter",
            f"--config.file={scene.config}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        started = running.enter_context(process(command, log))
        _wait_until_it_listens(port)
        soak = Soak(scene, started, port)
        running.callback(soak.close)
        soak.run(seconds, say)
        started.terminate()
        status = started.wait(TIMEOUT)
    if status:
        soak.result.problems.append(f"the exporter ended with status {status}")
    soak.result.problems += _problems_of(log, scene.state, scene.secrets)
    return soak.result


def _wait_until_it_listens(port: int) -> None:
    for _ in range(PATIENCE):
        try:
            socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
        except ConnectionRefusedError:
            time.sleep(INTERVAL)
        else:
            return
    message = "the exporter does not listen"
    raise TimeoutError(message)


def _problems_of(log: Path, state: Path, secrets: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the files that the exporter left."""
    text = log.read_bytes()
    if b"Traceback" in text:
        yield "the log holds a traceback"
    for path in (log, *state.parent.glob(f"{state.name}*")):
        if any(secret.encode() in path.read_bytes() for secret in secrets):
            yield f"{path.name} holds a secret"
    with closing(sqlite3.connect(state)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            yield "the state file is damaged"


def main(minutes: float, seed: int) -> int:
    """Run it, and print the report."""

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as name:
        result = run(Path(name), minutes * 60, seed, say)
        for text in result.report():
            say(text)
        if not result.good:
            lines = (Path(name) / "exporter.log").read_text().splitlines()
            say("\n".join(lines[-20:]))
    return 0 if result.good else 1
