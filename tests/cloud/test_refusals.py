"""Whose fault a refusal is, end to end against the simulated cloud (law 5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.cloud.refusals import MOST_TRIES, Refusal, RefusedTries
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.errors import AuthError, RefusedEarlierError, ThrottledError
from dcs_task_exporter.exporter import Exporter
from tests.support.clouds import ACCESS_KEY, SECRET_KEY, World, exporter_of, world

PAUSE = 310


def ups(exporter: Exporter) -> dict[str, bool]:
    """Return which instances were read."""
    return {snapshot.instance.id: snapshot.up for snapshot in exporter.refresher.snapshots()}


def refresh(here: World, exporter: Exporter, after: float = 15) -> dict[str, bool]:
    """Let time pass, read what is due, and return what was read."""
    here.clock.advance(after)
    exporter.fleet.refresh_and_wait(20)
    return ups(exporter)


@pytest.mark.parametrize("seed", range(10))
def test_half_of_the_answers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of the answers 401, nothing is sent after the third of them came.

    Only what was under way then comes to it: 7 others, at a concurrency of 8.
    """
    counts: list[int] = []  # of requests, when a refusal had come
    send = ApiCaller._pass_gate  # noqa: SLF001 - behind it, the gate knows the answer

    def noted(*call: Any, **more: Any) -> Any:
        try:
            return send(*call, **more)
        except RefusedEarlierError:
            raise  # no request was sent
        except AuthError:
            counts.append(here.cloud.count())
            raise

    monkeypatch.setattr(ApiCaller, "_pass_gate", noted)
    with world(20) as here, here.exporter(concurrency=8) as exporter:
        here.cloud.faults._random.seed(seed)  # noqa: SLF001 - chance, held still
        here.cloud.faults.add("bad_signature", probability=0.5)
        for _ in range(5):
            refresh(here, exporter)

        assert here.cloud.count() <= counts[:3][-1] + 7


@pytest.mark.parametrize("fault", ["bad_signature", "dcs_401", "iam_throttled"])
def test_one_refused_instance_costs_itself(fault: str) -> None:
    """An instance that alone is refused or throttled is down with its reason, the others are up."""
    with world(10) as here, here.exporter() as exporter:
        refresh(here, exporter)
        here.cloud.faults.add(fault, instance_id="i3")
        found = [refresh(here, exporter) for _ in range(5)]
        failure = exporter.refresher.snapshots()[3].failure

    assert all(up == (key != "i3") for each in found for key, up in each.items())
    assert failure is not None
    assert failure.reason == ("throttled" if fault == "iam_throttled" else "auth")


@pytest.mark.parametrize("known", [False, True])
def test_a_refused_instance_is_asked_once_a_pause(known: bool) -> None:  # noqa: FBT001 - a case
    """An instance that alone is refused is asked once in five minutes, and read when it is let."""
    with world(10) as here, here.exporter() as exporter:
        if known:
            refresh(here, exporter)
        before = here.cloud.count(instance_id="i3")
        here.cloud.faults.add("bad_signature", instance_id="i3")
        for _ in range(43):  # just over two pauses
            refresh(here, exporter)
        assert here.cloud.count(instance_id="i3") - before == 3
        here.cloud.faults.clear()
        assert refresh(here, exporter, PAUSE)["i3"]


def test_one_throttled_instance_is_asked_less_and_less() -> None:
    """An instance that alone is throttled is asked again after a pause that grows to 30 seconds."""
    with world(3) as here, here.exporter() as exporter:
        refresh(here, exporter)
        here.cloud.faults.add("iam_throttled", instance_id="i1")
        before = here.cloud.count(instance_id="i1")
        for _ in range(300):
            refresh(here, exporter, 1)

        assert 10 <= here.cloud.count(instance_id="i1") - before <= 16


@pytest.mark.parametrize("fault", ["throttled", "throttled_for_2s"])
def test_a_named_window_is_everyones(fault: str) -> None:
    """A 429 that says how long pauses the whole project: that is the cloud's word."""
    with world(10) as here, here.exporter(concurrency=1) as exporter:
        here.cloud.faults.add(fault, instance_id="i0")
        here.clock.advance(15)
        exporter.fleet.refresh_and_wait(0.5)

        assert here.cloud.count() == 1


@contextmanager
def with_a_key_file(here: World, path: Path, key: str) -> Iterator[Exporter]:
    """Run an exporter that has its secret key from a file."""
    path.write_text(key)
    text = here.config_text().replace(f"secret_key: {SECRET_KEY}", f"secret_key_file: {path}")
    with exporter_of(here, text) as exporter:
        yield exporter


def test_a_new_key_file_is_tried_at_once(tmp_path: Path) -> None:
    """After a refusal the key file that changed is tried at the next refresh."""
    with world(5) as here, with_a_key_file(here, tmp_path / "sk", "wrong") as exporter:
        assert not any(refresh(here, exporter).values())
        (tmp_path / "sk").write_text(SECRET_KEY)

        assert all(refresh(here, exporter).values())


def test_a_new_key_file_lets_a_refused_instance_in(tmp_path: Path) -> None:
    """An instance that alone is refused is asked at once when the key file has changed."""
    with world(5) as here, with_a_key_file(here, tmp_path / "sk", SECRET_KEY) as exporter:
        here.cloud.faults.add("bad_signature", instance_id="i3")
        refresh(here, exporter)
        refresh(here, exporter)
        here.cloud.faults.clear()
        here.cloud.access.add_key(ACCESS_KEY, "another")
        (tmp_path / "sk").write_text("another")

        assert all(refresh(here, exporter).values())


def test_a_key_file_that_was_away(tmp_path: Path) -> None:
    """A key file that cannot be read is read again at the next refresh."""
    with world(5) as here, with_a_key_file(here, tmp_path / "sk", SECRET_KEY) as exporter:
        (tmp_path / "sk").write_text("")
        assert not any(refresh(here, exporter).values())
        assert here.cloud.count() == 0
        (tmp_path / "sk").write_text(SECRET_KEY)

        assert all(refresh(here, exporter).values())


def test_the_same_key_is_no_new_key(tmp_path: Path) -> None:
    """A refused key that was away for a moment and is back unchanged is still refused."""
    with world(5) as here, with_a_key_file(here, tmp_path / "sk", "wrong") as exporter:
        for content in ("wrong", "", "wrong"):
            (tmp_path / "sk").write_text(content)
            refresh(here, exporter)

        assert here.cloud.count() <= 2


def refused(now: float) -> Refusal:
    """Return the refusal of a key at a moment."""
    return Refusal(AuthError("no"), now, now + PAUSE, PAUSE)


def test_three_tries_in_a_pause() -> None:
    """An access key may be refused three times within a pause; each counts until its own ends."""
    tries = RefusedTries()
    left = [tries.left(0.0)]
    for now in (0.0, 1.0, 2.0):
        tries.add(refused(now))
        left.append(tries.left(now))

    assert MOST_TRIES == 3
    assert left == [3, 2, 1, 0]
    assert [tries.left(now) for now in (309.9, 310.0, 311.0, 312.0)] == [0, 1, 2, 3]


def test_only_the_latest_tries_count() -> None:
    """With a fourth try the first is forgotten."""
    tries = RefusedTries()
    for now in (0.0, 1.0, 2.0, 400.0):
        tries.add(refused(now))

    assert tries.left(311.5) == 1


def test_an_accepted_key_has_all_its_tries() -> None:
    """The tries before the key was accepted count no more."""
    tries = RefusedTries()
    tries.add(refused(0.0))
    tries.clear()

    assert tries.left(0.0) == MOST_TRIES


def test_the_refusal_without_a_try_left() -> None:
    """The latest refusal stands until the first of the tries ends."""
    tries = RefusedTries()
    for now in (0.0, 1.0, 2.0):
        tries.add(refused(now))

    standing = tries.standing()
    assert (standing.found_at, standing.until) == (2.0, PAUSE)


@pytest.mark.parametrize(("now", "until"), [(5.0, 5.0), (400.0, 310.0)])
def test_a_pause_that_is_ended(now: float, until: float) -> None:
    """The pause of a refused key can be ended now; one that is over stays over."""
    assert refused(0.0).ended(now).until == until


def test_a_throttling_is_not_ended() -> None:
    """A pause after a 429 is the cloud's own: it cannot be ended."""
    throttled = Refusal(ThrottledError("no"), 0.0, 30.0, 30.0)

    assert throttled.ended(5.0) is throttled
