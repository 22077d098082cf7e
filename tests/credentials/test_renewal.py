"""Credentials that end: renewed in time, once for all, and used while they live."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcs_task_exporter.cloud.credential import Credential, Token
from dcs_task_exporter.credentials.renewal import (
    EARLIEST_RENEWAL,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MIN_AGE,
    RENEWED_AT,
    SPREAD,
    Fresh,
    Renewal,
)
from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    AuthError,
    CredentialsError,
    NoSlotError,
    RefusedEarlierError,
    ServerError,
    StoppedError,
)
from tests.support.clouds import SettableClock

LIFE = 1000.0
MUST_BE_UPDATED = AuthError("The token must be updated.", status=401)

Outcome = float | Exception
"""What a renewal comes to: a life in seconds, or an error."""


@dataclass
class Service:
    """Makes tokens that live as long as it is told, or fails; counts what it is asked."""

    clock: SettableClock = field(default_factory=SettableClock)
    outcomes: list[Outcome] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    asked: int = 0
    ends: dict[Credential, float] = field(default_factory=dict)
    while_asked: Callable[[], None] = lambda: None
    closed: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.renewal = Renewal("prod", self, self.clock.clock, lambda: self.jitter, self.close)

    def __call__(self, _: float) -> Fresh:
        self.asked += 1
        self.while_asked()
        outcome = self.outcomes.pop(0) if self.outcomes else LIFE
        if isinstance(outcome, Exception):
            raise outcome
        token = Token(self.names.pop(0) if self.names else f"token-{self.asked}")
        self.ends.setdefault(token, self.clock.steady + outcome)
        return Fresh(token, self.ends[token] - self.clock.steady)

    def close(self) -> None:
        self.closed = True

    def ask(self, patience: float = 10.0) -> str:
        found = self.renewal.renewed(self.clock.steady + patience)
        assert isinstance(found, Token)
        return found.token


@pytest.fixture
def service() -> Service:
    return Service()


def test_first_credentials(service: Service) -> None:
    """The first request obtains credentials, and the others use them."""
    assert [service.ask() for _ in range(3)] == ["token-1"] * 3
    assert service.asked == 1


def test_none_yet(service: Service) -> None:
    """Before that there are none."""
    with pytest.raises(CredentialsError, match="no credentials were obtained yet"):
        service.renewal.current()


@pytest.mark.parametrize(
    ("life", "jitter", "margin"),
    [
        (1000, 0, 100),
        (86_400, 0, EARLIEST_RENEWAL),
        (1000, 1, 100 * (1 - SPREAD)),
        (900, 0.5, 90 * (1 - SPREAD / 2)),
    ],
)
def test_when_it_is_due(life: float, jitter: float, margin: float) -> None:
    """A renewal is due when a tenth of the life is left, 40 minutes at most, a bit later by chance.

    Nothing is asked before that.
    """
    service = Service(outcomes=[life, LIFE], jitter=jitter)
    service.ask()
    service.clock.advance(life - margin - 1)
    before = service.ask()
    service.clock.advance(1)

    assert (before, service.ask(), service.asked) == ("token-1", "token-2", 2)


def test_failed_renewal(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """If a renewal fails, the old credentials are used while they live, and one line is logged."""
    service.ask()
    service.outcomes = [ServerError("down", status=503)] * 100
    service.clock.advance(LIFE * 0.95)
    with caplog.at_level(logging.INFO):
        found = []
        for _ in range(4):
            found.append(service.ask())
            service.clock.advance(FIRST_PAUSE * 2)

    assert found == ["token-1"] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "the credentials of a project cannot be renewed: the old ones are used while they live"
    ]


@pytest.mark.parametrize(
    "other",
    [
        ServerError("down", status=502, error_code="IAM.1"),
        ServerError("down", status=503, error_code="IAM.2"),
        ApiTimeoutError("down", status=503, error_code="IAM.1"),
    ],
)
def test_another_kind_of_failure_is_logged(
    service: Service, other: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure with another reason, status or code than the one before it has its own line."""
    service.ask()
    service.outcomes = [ServerError("down", status=503, error_code="IAM.1"), other]
    service.clock.advance(LIFE * 0.95)
    for _ in range(2):
        service.ask()
        service.clock.advance(FIRST_PAUSE * 2)

    assert len(caplog.records) == 2


def test_recovery_is_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The renewal that works again is logged, once."""
    service.outcomes = [LIFE, ServerError("down", status=503)]
    service.ask()
    service.clock.advance(LIFE)
    with caplog.at_level(logging.INFO):
        with pytest.raises(ServerError):
            service.ask()
        service.clock.advance(FIRST_PAUSE * 2)
        service.ask()
        service.clock.advance(LIFE)
        service.ask()

    assert [record.getMessage() for record in caplog.records] == [
        "the credentials of a project cannot be renewed: no request is sent without new ones",
        "the credentials of a project are renewed again",
    ]


def test_no_living_credentials(service: Service) -> None:
    """If none live, the error is that of the renewal, and asking again at once is no use."""
    service.outcomes = [ServerError("down", status=503, error_code="IAM.1", request_id="r")]
    with pytest.raises(ServerError, match="no credentials can be obtained: down") as caught:
        service.ask()
    with pytest.raises(ServerError, match="the next try is within a minute: down") as again:
        service.ask()

    assert service.asked == 1
    assert [caught.value.retryable, again.value.retryable] == [False, False]
    assert (again.value.status, again.value.error_code) == (503, "IAM.1")


def test_pauses_grow(service: Service) -> None:
    """The pauses between failed renewals double, up to a minute."""
    service.outcomes = [CredentialsError("no")] * 1000
    moments = []
    for _ in range(400):
        before = service.asked
        with pytest.raises(CredentialsError):
            service.ask()
        if service.asked > before:
            moments.append(service.clock.steady)
        service.clock.advance(1)

    pauses = [b - a for a, b in itertools.pairwise(moments)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert set(pauses[4:]) == {LONGEST_PAUSE}


@pytest.mark.parametrize(
    "error",
    [AuthError("wrong"), RefusedEarlierError("wrong"), NoSlotError("late"), StoppedError("end")],
)
def test_what_is_not_paused(service: Service, error: ApiError) -> None:
    """After no request, or a refused secret, which the gate holds back, it is tried again."""
    service.outcomes = [error]
    with pytest.raises(type(error)):
        service.ask()

    assert service.ask() == "token-2"


def test_refused_secret_while_old_ones_live(service: Service) -> None:
    """With a refused secret the old credentials are used to their end, and no longer."""
    service.ask()
    service.outcomes = [AuthError("wrong", status=401)] * 10
    service.clock.advance(LIFE - 1)
    assert [service.ask() for _ in range(3)] == ["token-1"] * 3
    service.clock.advance(1)

    with pytest.raises(AuthError, match="wrong"):
        service.ask()


def test_the_same_credentials_again(service: Service) -> None:
    """A service that gives the same credentials until they are nearly dead is not asked often."""
    service.ask()
    service.clock.advance(LIFE * 0.9)
    service.names = ["token-1"] * 5
    found = []
    for _ in range(90):
        found.append(service.ask())
        service.clock.advance(1)

    assert found[0] == "token-1"
    assert service.asked == 1 + len([0, 5, 15, 35, 75])


def test_set_clock(service: Service) -> None:
    """A wall clock that is set anew costs one renewal at most."""
    service.ask()
    service.clock.wall += 100_000
    service.ask()
    service.clock.wall -= 200_000
    for _ in range(10):
        service.ask()

    assert service.asked == 2


def test_a_machine_that_slept(service: Service) -> None:
    """Credentials age while the machine sleeps and its monotonic clock stands still."""
    service.ask()
    service.clock.wall += LIFE

    assert service.ask() == "token-2"


def test_outdated(service: Service) -> None:
    """Credentials that the cloud calls outdated are renewed at once, although they would live."""
    service.ask()
    service.clock.advance(MIN_AGE)

    assert service.renewal.refuse(Token("token-1"), MUST_BE_UPDATED)
    assert service.ask() == "token-2"


@pytest.mark.parametrize("text", ["token expires, expires_at: 2026", "The token expired."])
def test_words_for_outdated(service: Service, text: str) -> None:
    """The cloud has several words for that."""
    service.ask()
    service.clock.advance(MIN_AGE)

    assert service.renewal.refuse(Token("token-1"), AuthError(text, status=401))


def test_other_refusals(service: Service) -> None:
    """A refusal for another reason renews nothing: that would not help."""
    service.ask()
    service.clock.advance(MIN_AGE)

    assert not service.renewal.refuse(Token("token-1"), AuthError("verify aksk signature fail"))
    assert service.ask() == "token-1"


def test_fresh_ones_are_refused(service: Service) -> None:
    """Credentials that just came are not renewed again if these are refused too."""
    service.ask()
    service.clock.advance(MIN_AGE - 1)

    assert not service.renewal.refuse(Token("token-1"), MUST_BE_UPDATED)
    assert service.asked == 1


def test_refused_when_others_are_there(service: Service) -> None:
    """A refusal of credentials that were renewed meanwhile says nothing of the new ones."""
    service.ask()

    assert service.renewal.refuse(Token("older"), MUST_BE_UPDATED)
    assert (service.ask(), service.asked) == ("token-1", 1)


def test_one_renewal_for_many(service: Service) -> None:
    """Many threads that have no living credentials wait for one renewal."""
    barrier, release = threading.Barrier(33), threading.Event()
    service.while_asked = release.wait  # type: ignore[assignment]

    def ask(_: int) -> str:
        barrier.wait(10)
        return service.ask()

    with ThreadPoolExecutor(32) as threads:
        found = threads.map(ask, range(32))
        barrier.wait(10)
        release.set()

        assert set(found) == {"token-1"}
    assert service.asked == 1


def test_others_use_the_old_ones(service: Service) -> None:
    """While one renews, the others go on with the old credentials, without waiting."""
    service.ask()
    service.clock.advance(LIFE * 0.95)
    found: list[str] = []
    service.while_asked = lambda: found.append(service.ask(-1))

    assert (service.ask(), found) == ("token-2", ["token-1"])


def test_waiting_ends(service: Service) -> None:
    """Who waits for a renewal gives up at his own deadline."""
    found: list[Exception] = []

    def impatient() -> None:
        with pytest.raises(ApiTimeoutError, match="no answer came in time") as caught:
            service.ask(-1)
        found.append(caught.value)

    service.while_asked = impatient
    service.ask()

    assert len(found) == 1


def test_failure_is_shared(service: Service) -> None:
    """Those who wait for a renewal that fails get its error, and ask nobody."""
    started, release = threading.Event(), threading.Event()
    service.outcomes = [ServerError("down")]

    def hang() -> None:
        started.set()
        release.wait(10)

    service.while_asked = hang

    def ask(_: int) -> str:
        try:
            return service.ask()
        except ServerError as error:
            return error.message

    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(ask, 0)
        assert started.wait(10)
        others = [threads.submit(ask, number) for number in range(1, 8)]
        release.set()
        found = {one.result(10) for one in [first, *others]}

    assert all("down" in message for message in found)
    assert service.asked == 1


def test_closing(service: Service) -> None:
    """Closing ends the wait of all threads, and the requests of the service."""
    started, release = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        release.wait(10)

    service.while_asked = hang
    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(service.ask)
        assert started.wait(10)
        waiting = threads.submit(service.ask)
        service.renewal.close()
        with pytest.raises(StoppedError):
            waiting.result(10)
        release.set()
        leader.result(10)

    assert service.closed
    with pytest.raises(StoppedError):
        service.ask()


def test_unforeseen_error(service: Service) -> None:
    """An error that nobody foresaw is no end: the next renewal is tried after a pause."""
    service.outcomes = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        service.ask()
    with pytest.raises(ApiError, match="unforeseen"):
        service.ask()
    service.clock.advance(FIRST_PAUSE)

    assert service.ask() == "token-2"


ERRORS = [ServerError("down"), AuthError("wrong"), CredentialsError("none"), NoSlotError("late")]
STEPS = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([0.0, 1.0, 7.0, 50.0, 100.0, 500.0, 2000.0])),
    st.tuples(st.just("ask"), st.sampled_from([10.0, 500.0, 1000.0, *ERRORS])),
    st.tuples(st.just("refuse"), st.just(0.0)),
)


@given(
    st.lists(STEPS, max_size=40),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_model(steps: list[tuple[str, Outcome]], jitter: float, overlapping: bool) -> None:  # noqa: FBT001 - a case
    """Whatever happens: one renewal at once, none too early, and no dead credentials.

    With `overlapping`, another thread asks while the renewal is under way.
    """
    service = Service(jitter=jitter)
    model = Model(service)
    if overlapping:
        service.while_asked = model.ask_meanwhile
    for kind, value in steps:
        if kind == "advance":
            assert isinstance(value, float)
            service.clock.advance(value)
        elif kind == "refuse":
            model.refuse()
        else:
            model.ask(value)


class Model:
    """What must be true of a renewal, said in the simplest way."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.held: Credential | None = None
        self.life = 0.0
        self.is_refused = False
        self.in_flight = 0

    @property
    def left(self) -> float:
        """The seconds that the held credentials live."""
        if self.held is None or self.is_refused:
            return 0.0
        return self.service.ends[self.held] - self.service.clock.steady

    def refuse(self) -> None:
        if self.held is not None and self.service.renewal.refuse(self.held, MUST_BE_UPDATED):
            self.is_refused = True

    def ask(self, outcome: Outcome) -> None:
        service, asked, left = self.service, self.service.asked, self.left
        service.outcomes = [outcome]
        error: Exception | None = None
        found: Credential | None = None
        try:
            found = service.renewal.renewed(service.clock.steady + 10)
        except (ApiError, CredentialsError) as raised:
            error = raised
        was_asked = service.asked - asked
        assert was_asked in (0, 1)
        if was_asked:
            assert left <= min(self.life * RENEWED_AT, EARLIEST_RENEWAL)
        if was_asked and isinstance(outcome, float):
            assert error is None
            self.held, self.life, self.is_refused = found, outcome, False
            assert found == Token(f"token-{service.asked}")
        elif error is None:
            assert found == self.held
            assert left > 0
        else:
            assert left <= 0

    def ask_meanwhile(self) -> None:
        """Ask as another thread does while a renewal is under way."""
        self.in_flight += 1
        assert self.in_flight == 1
        left = self.left
        try:
            found = self.service.renewal.renewed(self.service.clock.steady - 1)
        except ApiTimeoutError:
            assert left <= 0
        else:
            assert found == self.held
            assert left > 0
        self.in_flight -= 1
