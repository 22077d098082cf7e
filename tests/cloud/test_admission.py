"""The admission after a refusal: how long each pause is, and for whom.

`test_gate.py` has what must hold over all interleavings.
"""

from __future__ import annotations

import pytest

from dcs_task_exporter.cloud.admission import (
    MAX_OWN_REFUSALS,
    MAX_THROTTLE_BACKOFF,
    NO_VERDICT,
    UNPROVEN_IN_FLIGHT,
    Admission,
    Result,
    Ticket,
    Verdict,
    result_of,
)
from dcs_task_exporter.cloud.refusals import REFUSAL_PAUSE, Refusal
from dcs_task_exporter.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthError,
    BadRequestError,
    ForbiddenError,
    InvalidResponseError,
    NoSlotError,
    NotFoundError,
    OutdatedKeyError,
    RefusedEarlierError,
    ServerError,
    ThrottledEarlierError,
    ThrottledError,
)

REFUSED = AuthError("refused", status=401, error_code="APIGW.0301", request_id="r1")
THROTTLED = ThrottledError("too many", status=429)


def entered(admission: Admission, subject: str, now: float = 0.0) -> Ticket:
    """Return the ticket of a request that was sent."""
    ticket = admission.enter(subject, now)
    assert ticket is not None
    assert admission.start(ticket)
    return ticket


def asked(admission: Admission, subject: str, result: Result, now: float = 0.0) -> Verdict:
    """Send a request and answer it."""
    return admission.leave(entered(admission, subject, now), result, now)


def proven() -> Admission:
    """Return the admission of a key that was accepted once."""
    admission = Admission()
    asked(admission, "", "accepted")
    return admission


def refusal_of(admission: Admission, subject: str, now: float) -> ApiError:
    """Return why a request may not be sent."""
    with pytest.raises(ApiError) as raised:
        admission.enter(subject, now)
    return raised.value


def test_the_numbers() -> None:
    """The key is locked after 6 bad signatures for 5 minutes: the numbers stay well away."""
    assert REFUSAL_PAUSE > 300
    assert (REFUSAL_PAUSE, MAX_THROTTLE_BACKOFF) == (310, 30)
    assert (UNPROVEN_IN_FLIGHT, MAX_OWN_REFUSALS) == (2, 2)


@pytest.mark.parametrize(
    ("now", "wait"), [(0.0, 310), (100.4, 210), (309.6, 0), (310.0, 0), (400.0, 0)]
)
def test_the_wait_in_the_message(now: float, wait: int) -> None:
    """The message of a request that is not sent says how long the refusal stands."""
    error = Refusal(REFUSED, 0.0, 310.0, 310.0).earlier_error("the key", now)

    assert error.message == f"not asked: the key was refused, next try in {wait} s: refused"


def test_an_earlier_refusal_is_told_with_its_request() -> None:
    """A request that is not sent names the status, code and request of the refusal."""
    error = Refusal(REFUSED, 0.0, 310.0, 310.0).earlier_error("the key", 0.0)

    assert type(error) is RefusedEarlierError
    assert (error.status, error.error_code, error.request_id) == (401, "APIGW.0301", "r1")


def test_an_earlier_throttling_is_told_as_one() -> None:
    """A request that is not sent because of a 429 counts as throttled."""
    assert type(Refusal(THROTTLED, 0.0, 1.0, 1.0).earlier_error("the key", 0.0)) is (
        ThrottledEarlierError
    )


@pytest.mark.parametrize(("now", "is_refused"), [(309.9, True), (310.0, False)])
def test_the_pause_of_a_refused_key(now: float, *, is_refused: bool) -> None:
    """A refused key is not sent for 310 seconds, to the moment."""
    admission = proven()
    asked(admission, "", REFUSED)
    if is_refused:
        assert "the key was refused" in str(refusal_of(admission, "a", now))
    else:
        assert admission.enter("a", now) is not None


def test_an_instance_that_alone_is_refused() -> None:
    """The verdict on one refused instance names it alone, and holds nobody back."""
    admission = proven()
    assert asked(admission, "a", REFUSED, 5.0) is NO_VERDICT
    verdict = asked(admission, "b", "accepted", 6.0)

    assert verdict == Verdict({"a": Refusal(REFUSED, 5.0, 315.0, 310.0)}, 0.0)
    assert "this instance was refused" in str(refusal_of(admission, "a", 314.9))
    assert admission.enter("a", 315.0) is not None


def test_a_refused_key_is_no_pause_of_the_rate_limit() -> None:
    """The gate itself holds a refused key back: the verdict asks for no pause."""
    assert asked(proven(), "", REFUSED) == Verdict({}, 0.0)


def test_throttled_pauses_double() -> None:
    """Each 429 in a row without a time doubles the pause, from 1 to 30 seconds."""
    admission, now, pauses = proven(), 0.0, []
    for _ in range(7):
        pauses.append(asked(admission, "", THROTTLED, now).pause)
        now += 60

    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_an_instance_alone_is_asked_less_and_less() -> None:
    """A throttled instance alone waits twice as long after each 429, from 1 to 30 seconds."""
    admission, now, waits = proven(), 0.0, []
    for _ in range(13):
        asked(admission, "a", THROTTLED, now)
        asked(admission, "b", "accepted", now)
        wait = 0.25
        while wait < 64:
            try:
                admission.enter("a", now + wait)
            except ThrottledError:
                wait += 0.25
            else:
                break
        waits.append(wait)
        now += wait
        admission = _without_the_try(admission)

    assert waits == [1, 2, 4, 8, 16, *[30] * 8]


def _without_the_try(admission: Admission) -> Admission:
    """Give back the tickets that only showed that a request may be sent."""
    for ticket in list(admission._admitted):  # noqa: SLF001 - the tickets that nobody holds
        admission.leave(ticket, "unknown", 0.0)
    return admission


def test_accepted_again_it_begins_at_a_second() -> None:
    """After an accepted request the pauses of a throttled project begin anew."""
    admission = proven()
    asked(admission, "", THROTTLED, 0.0)
    asked(admission, "", THROTTLED, 60.0)
    asked(admission, "", "accepted", 120.0)

    assert asked(admission, "", THROTTLED, 180.0).pause == 1


def test_an_unproven_key_is_refused_with_two_instances() -> None:
    """Of a key that was never accepted, two refused instances are enough."""
    admission = Admission()
    first, second = entered(admission, "a"), entered(admission, "b")
    assert admission.leave(first, REFUSED, 0.0) is NO_VERDICT

    assert admission.leave(second, REFUSED, 0.0) == Verdict({}, 0.0)
    assert "the key was refused" in str(refusal_of(admission, "c", 1.0))


def test_late_refusals_of_a_proven_key() -> None:
    """Of a key that was accepted, three instances that were asked together must be refused."""
    admission = proven()
    tickets = [entered(admission, name) for name in "abc"]
    verdicts = [admission.leave(ticket, REFUSED, 0.0) for ticket in tickets]

    assert verdicts == [NO_VERDICT, NO_VERDICT, Verdict({}, 0.0)]
    assert verdicts[1] is NO_VERDICT


@pytest.mark.parametrize(("second", "is_key"), [(REFUSED, True), (THROTTLED, False)])
def test_a_refusal_of_another_kind_is_not_alike(second: ApiError, *, is_key: bool) -> None:
    """A 401 and a 429 are not two refusals of the same thing."""
    admission = proven()
    asked(admission, "a", REFUSED)
    verdict = asked(admission, "b", second)

    assert (verdict is not NO_VERDICT) is is_key


@pytest.mark.parametrize(("now", "is_key"), [(309.0, True), (310.0, False)])
def test_instances_refused_long_ago(now: float, *, is_key: bool) -> None:
    """Three instances that were refused within a pause are the key; over longer they are not."""
    admission = proven()
    for name in "ab":
        asked(admission, name, REFUSED, 0.0)
        asked(admission, "x", "accepted", 0.0)

    assert (asked(admission, "c", REFUSED, now) is not NO_VERDICT) is is_key


def test_what_was_found_long_ago_is_not_new() -> None:
    """An instance that is refused again and again was found when it was refused first."""
    admission = proven()
    for name, now in (("a", 0.0), ("a", 310.0), ("b", 315.0)):
        asked(admission, name, REFUSED, now)
        asked(admission, "x", "accepted", now)

    assert asked(admission, "c", REFUSED, 316.0) is NO_VERDICT


def test_a_known_instance_decides_nothing() -> None:
    """While another refusal is undecided, an instance that alone is refused waits for it too."""
    admission = proven()
    asked(admission, "a", REFUSED, 0.0)
    asked(admission, "x", "accepted", 0.0)
    asked(admission, "b", REFUSED, 100.0)

    assert "this instance was refused" in str(refusal_of(admission, "a", 409.9))
    assert admission.enter("a", 410.0) is not None


def tried_again(*others: str) -> Admission:
    """Return the admission of a key that was refused until 620 when c tried, and others asked."""
    admission = proven()
    asked(admission, "a", REFUSED, 0.0)
    asked(admission, "b", REFUSED, 0.0)
    asked(admission, "c", REFUSED, 310.0)
    for name in others:
        refusal_of(admission, name, 400.0)
    return admission


def test_who_tried_lets_others_try() -> None:
    """After a pause the instance that tried last waits another one, if others asked meanwhile."""
    admission = tried_again("d")

    assert isinstance(refusal_of(admission, "c", 929.9), RefusedEarlierError)
    assert admission.enter("c", 930.0) is not None


def test_nobody_else_tries() -> None:
    """After a pause the instance that tried last tries again where no other asked."""
    assert isinstance(refusal_of(tried_again("c"), "c", 619.9), RefusedEarlierError)
    assert tried_again("c").enter("c", 620.0) is not None


def test_another_that_asked_once_is_enough() -> None:
    """It is remembered until the pause ends that another instance asked."""
    admission = tried_again("d", "c")

    assert isinstance(refusal_of(admission, "c", 620.0), RefusedEarlierError)


def test_a_ticket_starts_once() -> None:
    """A ticket is the right to one request."""
    admission = Admission()
    ticket = entered(admission, "a")

    assert admission.start(ticket) is False


def test_the_ticket_of_another_key() -> None:
    """The result of a request with another key is nothing."""
    other = entered(Admission(), "a")
    admission = Admission()

    assert admission.leave(other, REFUSED, 0.0) is NO_VERDICT
    assert [admission.enter(name, 0.0) is None for name in "abc"] == [False, False, True]


def test_a_request_that_was_not_sent_proves_nothing() -> None:
    """An error before the request was sent says nothing of the key."""
    admission = Admission()
    ticket = admission.enter("a", 0.0)
    assert ticket is not None
    assert admission.leave(ticket, REFUSED, 0.0) is NO_VERDICT

    assert admission.enter("a", 0.0) is not None


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ForbiddenError("no", status=403), "accepted"),
        (NotFoundError("no", status=404), "accepted"),
        (BadRequestError("no", status=400), "accepted"),
        (ServerError("no", status=500), "unknown"),
        (ApiTimeoutError("no"), "unknown"),
        (ApiConnectionError("no"), "unknown"),
        (InvalidResponseError("no", status=200), "unknown"),
        (OutdatedKeyError("no", status=401), "unknown"),
        (NoSlotError("no"), "unknown"),
        (ThrottledError("no", status=429, retry_after=5.0), "unknown"),
    ],
)
def test_what_an_error_says_of_the_key(error: ApiError, result: Result) -> None:
    """An answer about the request shows that the key was accepted; other errors show nothing."""
    assert result_of(error) == result


@pytest.mark.parametrize(
    "error", [REFUSED, THROTTLED, ThrottledError("", status=429, retry_after=0)]
)
def test_what_refuses_the_key(error: ApiError) -> None:
    """A 401, and a 429 that names no time, are refusals."""
    assert result_of(error) is error
