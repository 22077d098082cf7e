"""The gate after a refusal: who may ask, over all interleavings (law 5)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcs_task_exporter.cloud.admission import Admission, Result, Ticket, Verdict
from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.cloud.gate import Gate, Passage
from dcs_task_exporter.cloud.refusals import REFUSAL_PAUSE
from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    AuthError,
    ForbiddenError,
    RefusedEarlierError,
    ServerError,
    StoppedError,
    ThrottledEarlierError,
    ThrottledError,
)
from tests.support.clouds import ACCESS_KEY, SECRET_KEY

KEY = AccessKey(ACCESS_KEY, SECRET_KEY)
NEW_KEY = AccessKey(ACCESS_KEY, "another")
REFUSED = AuthError("refused", status=401)
THROTTLED = ThrottledError("too many", status=429)


@dataclass
class Project:
    """An admission, and the requests that are under way in the order in which they were sent."""

    now: float = 0.0
    admission: Admission = field(default_factory=Admission)
    flying: list[Ticket] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def wish(self, subject: str) -> str:
        """Let a request go if it may; return what became of it."""
        try:
            ticket = self.admission.enter(subject, self.now)
        except ApiError as error:
            return error.reason
        if ticket is None:
            assert self.flying, "told to wait, with nobody who could wake it"
            return "waits"
        assert self.admission.start(ticket)
        self.flying.append(ticket)
        self.sent.append(subject)
        return "sent"

    def answer(self, result: Result, subject: str | None = None) -> Verdict:
        """Let the answer for `subject` arrive, or that to the oldest request."""
        index = 0 if subject is None else [ticket.subject for ticket in self.flying].index(subject)
        verdict = self.admission.leave(self.flying.pop(index), result, self.now)
        self.verdicts.append(verdict)
        return verdict

    def ask(self, subject: str, result: Result) -> Verdict:
        """Send one request and answer it."""
        assert self.wish(subject) == "sent"
        return self.answer(result)

    def proven(self) -> Project:
        """Let the key be accepted once."""
        self.ask("", "accepted")
        return self


def test_a_new_key_is_tried_by_two() -> None:
    """Until a key was accepted once, two requests are under way."""
    project = Project()

    assert [project.wish(name) for name in "abc"] == ["sent", "sent", "waits"]
    project.answer("unknown")
    assert [project.wish(name) for name in "cd"] == ["sent", "waits"]
    project.answer("accepted")
    assert [project.wish(name) for name in "defg"] == ["sent"] * 4


def test_a_refusal_holds_all_until_one_other_is_let_in() -> None:
    """After a refusal one other instance is asked; if it is let in, only the first one waits."""
    project = Project().proven()
    project.ask("a", REFUSED)

    assert [project.wish(name) for name in "abc"] == ["auth", "sent", "waits"]
    assert set(project.answer("accepted").own) == {"a"}
    assert [project.wish(name) for name in "acd"] == ["auth", "sent", "sent"]
    project.now += REFUSAL_PAUSE
    assert project.wish("a") == "sent"


def test_two_in_a_row_are_the_key() -> None:
    """If the other instance is refused too, all wait for the pause, and then one tries."""
    project = Project().proven()
    project.ask("a", REFUSED)
    project.ask("b", REFUSED)

    assert [project.wish(name) for name in ["a", "b", "c", ""]] == ["auth"] * 4
    project.now += REFUSAL_PAUSE
    assert [project.wish(name) for name in "cd"] == ["sent", "waits"]
    project.answer(REFUSED)
    assert project.wish("d") == "auth"


def test_what_is_of_no_instance_is_the_keys() -> None:
    """A refusal of what is asked for no instance pauses all at once."""
    project = Project().proven()
    project.ask("", REFUSED)

    assert [project.wish(name) for name in ["a", ""]] == ["auth", "auth"]


def test_a_good_answer_under_way_decides_nothing() -> None:
    """An answer to a request that was sent before the refusal came does not open the gate."""
    project = Project().proven()
    for name in "abc":
        project.wish(name)
    project.answer(REFUSED, "a")
    project.answer("accepted", "b")

    assert project.wish("d") == "waits"
    project.answer("accepted", "c")
    assert [project.wish(name) for name in "de"] == ["sent", "waits"]


def test_what_was_admitted_does_not_leave_after_a_refusal() -> None:
    """A request that waits for its turn in the budget when a refusal comes must enter again."""
    project = Project().proven()
    project.wish("a")
    ticket = project.admission.enter("b", project.now)
    assert ticket is not None
    project.answer(REFUSED)

    assert not project.admission.start(ticket)
    project.admission.leave(ticket, "unknown", project.now)
    assert project.wish("b") == "sent"


@pytest.mark.parametrize("result", ["unknown", "accepted"])
def test_a_decision_is_not_hung_up(result: Result) -> None:
    """When the one that is asked brings no answer, the next one is asked."""
    project = Project().proven()
    project.ask("a", REFUSED)
    project.ask("b", "unknown")
    project.ask("c", result)

    assert [project.wish(name) for name in "de"] == [
        "sent",
        "sent" if result == "accepted" else "waits",
    ]


def test_three_on_their_own_are_the_key() -> None:
    """When a third instance is refused within a pause, all wait, whoever was let in between."""
    project = Project().proven()
    for name in "ab":
        project.ask(name, REFUSED)
        project.ask("x", "accepted")
    project.ask("c", REFUSED)

    assert project.wish("x") == "auth"


def test_what_is_known_holds_nobody() -> None:
    """An instance that is refused again, as it was before, holds nobody else."""
    project = Project().proven()
    project.ask("a", REFUSED)
    project.ask("x", "accepted")
    for _ in range(5):
        project.now += REFUSAL_PAUSE
        project.ask("a", REFUSED)
        assert [project.wish(name) for name in "axy"] == ["auth", "sent", "sent"]
        project.answer("accepted")
        project.answer("accepted")


def test_known_refusals_are_the_key_in_the_end() -> None:
    """When all that are asked are refused, also those that were before, it is the key."""
    project = Project().proven()
    for name in "ab":
        project.ask(name, REFUSED)
        project.ask("x", "accepted")
    project.now += REFUSAL_PAUSE
    project.ask("a", REFUSED)
    project.ask("b", REFUSED)
    project.ask("x", REFUSED)

    assert project.wish("y") == "auth"


def test_the_one_that_decides_is_not_one_that_is_refused() -> None:
    """An instance that is known to be refused does not speak for the key."""
    project = Project().proven()
    project.ask("a", REFUSED)
    project.ask("x", "accepted")
    project.now += REFUSAL_PAUSE
    project.ask("b", REFUSED)

    assert [project.wish(name) for name in "ax"] == ["auth", "sent"]


@pytest.mark.parametrize("bad", [1, 2, 5])
def test_after_the_pause_the_right_one_tries(bad: int) -> None:
    """Instances that are refused do not keep a good key shut, although they ask first."""
    project = Project().proven()
    order = [*(f"bad{number}" for number in range(bad)), "good", "better"]
    project.ask("bad0", REFUSED)
    project.ask("good", REFUSED)
    opened = False
    for _ in range(5 * bad):
        project.now += 15
        for name in order * 21:
            if project.wish(name) == "sent":
                opened |= "bad" not in name
                project.answer(REFUSED if "bad" in name else "accepted")
            project.now += 1

    assert opened
    assert project.wish("better") == "sent"


def test_one_instance_alone() -> None:
    """When there is no other instance, the only one is asked once a pause."""
    project = Project()
    for _ in range(200):
        project.now += 15
        if project.wish("a") == "sent":
            project.answer(REFUSED)

    assert len(project.sent) == 3000 // 315 + 1


def test_throttled_alone() -> None:
    """An instance that alone is throttled waits longer each time, up to 30 s; others do not."""
    project = Project().proven()
    pauses = []
    for _ in range(7):
        project.ask("a", THROTTLED)
        project.ask("x", "accepted")
        began = project.now
        while project.wish("a") == "throttled":
            project.now += 1
        project.answer("unknown")
        pauses.append(project.now - began)

    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_throttled_together() -> None:
    """When the other instance is throttled too, the project is held back, longer each time."""
    project = Project().proven()
    project.ask("a", THROTTLED)
    pauses = [project.ask(name, THROTTLED).pause for name in "bcdefgh"]

    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert [project.wish(name) for name in "xyz"] == ["sent", "waits", "waits"]
    project.answer("accepted")
    assert [project.wish(name) for name in "yz"] == ["sent", "sent"]


NAMES = [*"abcdefghijkl", ""]
THREADS = 8


@dataclass
class World:
    """Chooses what happens next, and keeps the truth: when a refusal came, what was sent since.

    At most `THREADS` requests are in hand at once, as in a pool.
    """

    choices: Iterator[int]
    project: Project
    waiting: list[Ticket] = field(default_factory=list)
    since_refusal: int = 0
    undecided: bool = False
    deciding: list[Ticket] = field(default_factory=list)
    bad: int = 0

    def choose(self, number: int) -> int:
        return next(self.choices) % number

    def step(self, refuses: Callable[[str], bool]) -> None:
        project = self.project
        choice = self.choose(3)
        room = len(project.flying) + len(self.waiting) < THREADS
        if choice == 0 and room:
            self.enter(NAMES[self.choose(len(NAMES))])
        elif choice == 1 and self.waiting:
            self.start(self.waiting.pop(self.choose(len(self.waiting))), refuses)
        elif project.flying:
            self.arrive(project.flying.pop(self.choose(len(project.flying))), refuses)

    def enter(self, subject: str) -> None:
        project = self.project
        try:
            ticket = project.admission.enter(subject, project.now)
        except (RefusedEarlierError, ThrottledEarlierError):
            return
        if ticket is None:
            assert project.flying or self.waiting, "told to wait, with nobody who could wake it"
            return
        self.waiting.append(ticket)

    def start(self, ticket: Ticket, refuses: Callable[[str], bool]) -> None:
        project = self.project
        if not project.admission.start(ticket):
            project.admission.leave(ticket, "unknown", project.now)
            return
        if self.undecided:
            assert not project.flying, "sent after a refusal, with others under way"
            self.deciding.append(ticket)
        project.flying.append(ticket)
        project.sent.append(ticket.subject)
        self.since_refusal += 1
        self.bad += refuses(ticket.subject)

    def arrive(self, ticket: Ticket, refuses: Callable[[str], bool]) -> None:
        project = self.project
        result: Result = REFUSED if refuses(ticket.subject) else "accepted"
        if self.choose(8) == 0:
            result = "unknown"
        project.admission.leave(ticket, result, project.now)
        if result is REFUSED and not self.undecided:
            self.undecided, self.since_refusal = True, 0
        elif result == "accepted" and ticket in self.deciding:
            self.undecided = False


CHOICES = st.binary(min_size=100, max_size=400)


@given(CHOICES)
@settings(max_examples=300, deadline=None)
def test_a_wrong_key_in_any_order(choices: bytes) -> None:
    """Law 5: of a key that never worked at most two are under way, and after a refusal one."""
    here = World(cycle(choices), Project())
    for _ in range(len(choices) // 3):
        here.step(lambda _: True)
        assert len(here.project.flying) <= 2


@given(CHOICES)
@settings(max_examples=300, deadline=None)
def test_a_key_that_is_revoked_in_any_order(choices: bytes) -> None:
    """Law 5: what starts after a refusal came starts alone, until the gate has decided."""
    here = World(cycle(choices), Project().proven())
    for _ in range(here.choose(30)):
        here.step(lambda _: False)
    for _ in range(len(choices) // 3):
        here.step(lambda _: True)


@dataclass
class Counting(World):
    """A world in which every answer comes."""

    def choose(self, number: int) -> int:
        return 1 if number == 8 else super().choose(number)


@given(CHOICES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_how_often_a_bad_key_is_sent(choices: bytes, known: bool) -> None:  # noqa: FBT001
    """Law 5: after the first refusal of a bad key one more is sent, and then one a pause.

    What was under way is as much as there are threads, and two with a key that never worked.
    """
    here = Counting(cycle(choices), Project().proven() if known else Project())
    for _ in range(len(choices) // 3):
        here.step(lambda _: True)
        assert len(here.project.flying) <= (THREADS if known else 2)
        assert not here.undecided or here.since_refusal <= 1
    assert here.bad <= (THREADS if known else 2) + 1
    for pauses in range(1, 4):
        here.project.now += REFUSAL_PAUSE
        for _ in range(len(choices) // 3):
            here.step(lambda _: True)
        assert here.since_refusal <= 1 + pauses


@given(CHOICES)
@settings(max_examples=300, deadline=None)
def test_one_bad_instance_in_any_order(choices: bytes) -> None:
    """One instance that is refused never turns another one away, whatever the order."""
    here = Counting(cycle(choices), Project())
    for _ in range(len(choices) // 3):
        here.step(lambda subject: subject == "a")
        for name in "bcd":
            assert here.project.admission._standing(name, here.project.now) is None  # noqa: SLF001
    assert here.bad <= THREADS  # where all ask for this one at once


@given(CHOICES)
@settings(max_examples=300, deadline=None)
def test_any_answers_in_any_order(choices: bytes) -> None:
    """Whatever the answers, nobody waits without one under way who can wake it."""
    here = World(cycle(choices), Project())
    for _ in range(len(choices) // 3):
        kind = here.choose(4)
        here.step(lambda _, kind=kind: kind < 2)  # type: ignore[misc]
        here.undecided = False  # what is known to be refused holds nobody
        here.project.now += (0.0, 1.0, 30.0, REFUSAL_PAUSE)[here.choose(4)]


class Threads:
    """A gate whose requests are held until they are told how to end."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.key = KEY
        self.now = 0.0
        self.gate = Gate(lambda: self.now, self.verdicts.append)
        self.ends: dict[str, list[Exception | None]] = {}
        self.results: dict[str, BaseException | str] = {}
        self.changed = threading.Condition()
        self.sent: list[str] = []

    def passage(self, subject: str, patience: float = 30) -> AbstractContextManager[Passage]:
        return self.gate.passage(lambda: self.key, subject, self.now + patience)

    def ask(self, subject: str, end: Exception | None = None, patience: float = 30) -> None:
        """Send one request that ends like this."""
        while True:
            with self.gate.passage(lambda: self.key, subject, self.now + patience) as passage:
                if not passage.start():
                    continue
                self.sent.append(subject)
                if end is not None:
                    raise end
                return

    def waiter(self, subject: str, patience: float = 30) -> Callable[[], object]:
        """Ask in a thread that has to wait; return what gives its result."""
        waits = threading.Event()
        result: list[object] = []
        condition = self.gate._changed  # noqa: SLF001 - to see that it waits
        wait = condition.wait

        def waiting(timeout: float | None = None) -> bool:
            waits.set()
            return wait(timeout)

        def run() -> None:
            try:
                self.ask(subject, None, patience)
                result.append("sent")
            except Exception as error:  # noqa: BLE001 - whatever it is
                result.append(error)

        condition.wait = waiting  # type: ignore[method-assign]
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert waits.wait(10)

        def joined() -> object:
            thread.join(10)
            return result[0]

        return joined


@pytest.fixture
def threads() -> Threads:
    made = Threads()
    made.ask("first")
    with pytest.raises(AuthError):
        made.ask("a", REFUSED)
    return made


def test_who_waits_is_woken(threads: Threads) -> None:
    """Who waits while one other is asked goes on when that one was let in."""
    with threads.gate.passage(lambda: KEY, "b", 30) as passage:
        passage.start()
        result = threads.waiter("c")

    assert result() == "sent"
    assert [set(verdict.own) for verdict in threads.verdicts] == [{"a"}]


def test_who_waits_is_refused_with_the_other(threads: Threads) -> None:
    """Who waits while one other is asked is refused, unsent, when that one was."""

    def refused() -> Callable[[], object]:
        with threads.gate.passage(lambda: KEY, "b", 30) as passage:
            passage.start()
            found.append(threads.waiter("c"))
            raise REFUSED

    found: list[Callable[[], object]] = []
    with pytest.raises(AuthError):
        refused()

    assert isinstance(found[0](), RefusedEarlierError)
    assert "c" not in threads.sent


def test_a_broken_thread_wakes_the_others(threads: Threads) -> None:
    """When the one that is asked dies of a bug, the next one is asked."""
    found: list[Callable[[], object]] = []

    def broken() -> None:
        with threads.gate.passage(lambda: KEY, "b", 30) as passage:
            passage.start()
            found.append(threads.waiter("c"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()

    assert found[0]() == "sent"


def test_patience_ends(threads: Threads) -> None:
    """Who waits in the gate waits until its deadline, and is not sent."""
    with threads.gate.passage(lambda: KEY, "b", 30), pytest.raises(ApiTimeoutError):
        threads.ask("c", patience=0.01)


def test_nobody_waits_when_the_exporter_stops(threads: Threads) -> None:
    """Who waits in the gate goes home when the exporter stops, and nobody enters any more."""
    with threads.gate.passage(lambda: KEY, "b", 30):
        result = threads.waiter("c")
        threads.gate.close()

        assert isinstance(result(), StoppedError)
    with pytest.raises(StoppedError):
        threads.ask("d")


def test_who_waits_takes_the_new_key(threads: Threads) -> None:
    """Who waits in the gate goes on with the key that another one brings."""
    with threads.gate.passage(lambda: KEY, "b", 30):
        result = threads.waiter("c")
        threads.key = NEW_KEY
        with threads.gate.passage(lambda: NEW_KEY, "a", 30):
            assert result() == "sent"


def test_another_key_is_tried_at_once(threads: Threads) -> None:
    """A changed key forgets every refusal, also those of single instances, and is not proven."""
    threads.ask("x")
    with pytest.raises(AuthError):
        threads.ask("b", REFUSED)
    threads.key = NEW_KEY

    with threads.passage("a"), threads.passage("b"), pytest.raises(ApiTimeoutError):
        threads.ask("c", patience=0)


def test_the_answers_to_an_old_key_are_nothing() -> None:
    """What the old key is told after the change does not touch the new one."""
    threads = Threads()

    def refused_late() -> None:
        with threads.passage("a") as passage:
            assert passage.start()
            threads.key = NEW_KEY
            threads.ask("b")
            raise REFUSED

    with pytest.raises(AuthError):
        refused_late()
    threads.ask("a")

    assert threads.sent == ["b", "a"]
    assert threads.verdicts == []


def test_a_late_reader_does_not_bring_the_old_key_back() -> None:
    """A thread that read the old key before the change does not undo it."""
    keys = iter([KEY, NEW_KEY, KEY, NEW_KEY, NEW_KEY])
    gate = Gate(lambda: 0.0, lambda _: None)

    def read() -> AccessKey:
        return next(keys)

    def credential() -> Passage:
        with gate.passage(read, "a", 0) as passage:
            return passage

    assert credential().credential == NEW_KEY
    assert credential().credential == NEW_KEY


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (ForbiddenError("no", status=403), True),
        (ServerError("down", status=502), False),
        (ThrottledError("wait", status=429, retry_after=9), False),
        (ZeroDivisionError(), False),
    ],
)
def test_what_proves_a_key(error: Exception, opens: bool) -> None:  # noqa: FBT001 - a case
    """An answer about the request proves the key; a gateway's trouble, a limit or a bug do not."""
    threads = Threads()
    with pytest.raises(type(error)):
        threads.ask("a", error)

    with threads.gate.passage(lambda: KEY, "b", 0), threads.gate.passage(lambda: KEY, "c", 0):
        if opens:
            threads.ask("d", patience=0)
        else:
            with pytest.raises(ApiTimeoutError):
                threads.ask("d", patience=0)


def test_another_try_before_the_pause_is_over() -> None:
    """Asked to try again, one request tries a refused key; if it is refused, all wait anew."""
    project = Project().proven()
    for name in "ab":
        project.ask(name, REFUSED)
    project.now += 1
    project.admission.try_again(project.now)

    assert [project.wish(name) for name in "cd"] == ["sent", "waits"]
    project.answer(REFUSED)
    assert [project.wish(name) for name in "abcd"] == ["auth"] * 4
    project.now += REFUSAL_PAUSE - 1
    assert project.wish("d") == "auth"


def test_another_try_finds_the_key_mended() -> None:
    """If the try is accepted, all go on at once."""
    project = Project().proven()
    for name in "ab":
        project.ask(name, REFUSED)
    project.admission.try_again(project.now)
    project.ask("c", "accepted")

    assert [project.wish(name) for name in "xyz"] == ["sent"] * 3


def test_the_only_instance_may_try_again() -> None:
    """Where one instance is all there is, it tries."""
    project = Project().proven()
    project.ask("a", REFUSED)
    project.admission.try_again(project.now)

    assert project.wish("a") == "sent"


@given(st.lists(st.sampled_from(["again", "pause", "a", "b", "c"]), max_size=60))
def test_no_number_of_tries_locks_a_key(steps: list[str]) -> None:
    """Law 5: however often another try is asked for, a bad key is sent five times in 5 minutes."""
    project, sent = Project(), list[float]()
    for step in steps:
        project.now += 5.0
        if step == "again":
            project.admission.try_again(project.now)
        elif step == "pause":
            project.now += 100.0
        else:
            two = [project.wish(step), project.wish(f"{step}2")]
            for _ in range(two.count("sent")):
                project.answer(REFUSED)
                sent.append(project.now)
    assert all(later - first > 300.0 for first, later in zip(sent, sent[5:], strict=False))


def test_throttling_is_not_ended_by_a_try() -> None:
    """A 429 says nothing of the key: its pause stands."""
    project = Project().proven()
    project.ask("a", THROTTLED)
    project.admission.try_again(project.now)

    assert project.wish("a") == "throttled"


def test_a_key_that_comes_back_is_known(threads: Threads) -> None:
    """A refused key that is used again, after another, is tried once, not as if it were new."""
    with pytest.raises(AuthError):
        threads.ask("b", REFUSED)
    threads.key = AccessKey("another access key", SECRET_KEY)
    threads.ask("a")
    threads.key = KEY
    with pytest.raises(AuthError):
        threads.ask("c", REFUSED)
    with pytest.raises(RefusedEarlierError):
        threads.ask("d")


def test_many_secrets_are_few_tries(threads: Threads) -> None:
    """Law 5: one access key with secrets that are all wrong is not tried without end."""
    for number in range(10):
        threads.key = AccessKey(ACCESS_KEY, f"wrong-{number}")
        with pytest.raises(AuthError):
            threads.ask("a", REFUSED)
    assert threads.sent.count("a") <= 5

    threads.now += REFUSAL_PAUSE
    threads.ask("b")


def test_who_waits_reads_its_key_anew(threads: Threads) -> None:
    """Who waits at the gate is woken by the wish for another try, and reads the key again."""
    with threads.gate.passage(lambda: KEY, "b", 30) as passage:
        passage.start()
        result = threads.waiter("c")
        threads.key = AccessKey("another access key", SECRET_KEY)
        threads.gate.try_again()
        assert result() == "sent"
