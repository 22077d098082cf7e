"""What was delivered to scrapers: the values, and the series that they have had long enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.refresh.delivered import DeliveredValues
from dcs_task_exporter.tasks.naming import Series

ANSWERS = st.lists(
    st.dictionaries(
        st.sampled_from([("EXTEND", "FAILED"), ("EXTEND", "SUCCESS"), ("new", "FAILED")]),
        st.integers(0, 3),
    ),
    max_size=12,
)


def test_answers_delivered_out_of_order() -> None:
    """An earlier answer that is delivered after a later one takes nothing back."""
    delivered = DeliveredValues()
    for number in (2, 1):
        delivered.add({("EXTEND", "FAILED"): number}, None, 0.0)

    assert delivered.values == {("EXTEND", "FAILED"): 2}


def test_an_earlier_answer_takes_no_series_away() -> None:
    """A series that a later answer showed first stays when an earlier answer is delivered."""
    delivered = DeliveredValues()
    delivered.add({("EXTEND", "FAILED"): 2, ("new", "FAILED"): 0}, 2, 0.0)
    delivered.add({("EXTEND", "FAILED"): 3}, 1, 1.0)

    assert delivered.values == {("EXTEND", "FAILED"): 3, ("new", "FAILED"): 0}
    assert delivered.series(0.0) == {("EXTEND", "FAILED"), ("new", "FAILED")}


def test_an_earlier_answer_brings_no_series_back() -> None:
    """A series that a later answer lacks does not return when an earlier answer is delivered."""
    delivered = DeliveredValues()
    delivered.add({}, 2, 0.0)
    delivered.add({("EXTEND", "FAILED"): 3}, 1, 1.0)

    assert delivered.values == {}
    assert delivered.series(1.0) == set()


@given(answers=ANSWERS)
def test_series_are_old_from_their_first_answer(answers: Sequence[Mapping[Series, int]]) -> None:
    """A series has been there since the first answer of those in a row that showed it."""
    delivered = DeliveredValues()
    since: dict[Series, float] = {}
    for number, answer in enumerate(answers):
        delivered.add(answer, number, float(number))
        since = {series: since.get(series, float(number)) for series in answer}

        for latest in range(len(answers)):
            old = {series for series, at in since.items() if at <= latest}
            assert set(delivered.series(latest)) == old


@given(answers=ANSWERS)
def test_values_never_fall(answers: Sequence[Mapping[Series, int]]) -> None:
    """The value of a series is the highest of the answers in a row that showed it."""
    delivered = DeliveredValues()
    values: dict[Series, int] = {}
    for number, answer in enumerate(answers):
        delivered.add(answer, number, 0.0)
        if answer:
            values = {key: max(value, values.get(key, 0)) for key, value in answer.items()}

        assert delivered.values == values


def test_an_instance_that_left_has_no_series() -> None:
    """An answer that is delivered after its instance left has values, but no series that lasts."""
    delivered = DeliveredValues()
    delivered.add({("EXTEND", "FAILED"): 3}, 1, None)

    assert delivered.values == {("EXTEND", "FAILED"): 3}
    assert delivered.series(9.0) == set()


def test_two_answers_of_one_number() -> None:
    """Of two answers with one number the second says which series a scraper has."""
    delivered = DeliveredValues()
    delivered.add({("EXTEND", "FAILED"): 1}, 1, 0.0)
    delivered.add({("EXTEND", "FAILED"): 2, ("new", "FAILED"): 0}, 1, 1.0)

    assert delivered.series(1.0) == {("EXTEND", "FAILED"), ("new", "FAILED")}
