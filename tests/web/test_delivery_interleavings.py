"""Law 3 at the socket: an answer counts as delivered when, and only when, it was.

See `tests/support/connection_scene.py` for the kernel that takes as many bytes as the test says.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.connection_scene import Step, scene

TAKES = st.tuples(st.just("take"), st.integers(1, 400) | st.integers(1, 200_000))
GOING_ON = st.lists(
    TAKES
    | st.tuples(
        st.sampled_from(["answer", "take half", "take all", "answer", "ask", "ask once"]),
        st.just(0),
    ),
    max_size=6,
)
ENDS = st.sampled_from(
    ["", "close", "reset", "stop sending", "goodbye", "cut", "stop", "break", "stop"]
)


def half_sent(end: str, after: list[Step]) -> example:
    """Return an example that is always played: the kernel takes a head, and some of the body."""
    return example(
        size=70_000,
        room=10_000,
        first="ask",
        before=[("answer", 0)],
        ends=(end, ""),
        between=[],
        after=after,
    )


PLENTY = 10_000_000
"""Bytes for which the kernel has room: more than all answers have."""

TAKE_ALL = [("take all", 0)] * 3


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@settings(max_examples=2 * settings().max_examples)
@half_sent("", [])
@half_sent("", TAKE_ALL)
@half_sent("stop sending", TAKE_ALL)
@half_sent("break", TAKE_ALL)
@half_sent("cut", TAKE_ALL)
@example(
    size=0,
    room=PLENTY,
    first="ask",
    before=[],
    ends=("break", ""),
    between=[("answer", 0)],
    after=[],
)
@example(
    size=0,
    room=PLENTY,
    first="ask once",
    before=[("take half", 0), ("answer", 0)],
    ends=("", ""),
    between=[],
    after=TAKE_ALL[:2],
)
@given(
    size=st.sampled_from([0, 1000, 70_000, 600_000]),
    room=st.sampled_from([0, 100, 10_000, PLENTY]),
    first=st.sampled_from(["ask", "ask once"]),
    before=GOING_ON,
    ends=st.tuples(ENDS, ENDS),
    between=GOING_ON,
    after=GOING_ON,
)
def test_deliveries_are_true(
    *,
    tls: bool,
    size: int,
    room: int,
    first: str,
    before: list[Step],
    ends: tuple[str, str],
    between: list[Step],
    after: list[Step],
) -> None:
    """An answer counts as delivered exactly when all of it left before a disconnect was seen, in
    any order of events of the client, the kernel and the server.
    """
    with scene(size, tls=tls) as here:
        here.tap.room = room
        steps = [(first, 0), *before, (ends[0], 0), *between, (ends[1], 0), *after]
        for what, number in steps:
            here.play(what, number)
        left, delivered = here.truth()
        assert here.answers, "nobody asked"
        # A TLS that we close says goodbye after the answer, and that must have left as well.
        limited = room < PLENTY or {("take half", 0), ("take all", 0)} & set(steps)
        says_goodbye = tls and limited and {("ask once", 0), ("stop", 0)} & set(steps)
        assert delivered <= left if says_goodbye else delivered == left
        assert not here.errors
