"""The names of an instance: each increase of its counters is seen under one name only."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.naming import MAX_FORMER_NAMES, Naming, Series, name_of

FAILED: Series = ("EXTEND", "FAILED")
OTHER: Series = ("EXTEND", "SUCCESS")


def test_one_name_shows_the_counts() -> None:
    """An instance that was never renamed shows its counts, as the same object."""
    shown = {FAILED: 3}
    naming = Naming("a")

    assert naming.exposed(shown) is shown
    assert naming.counts(shown) is shown


def test_a_new_name_begins_with_the_counts() -> None:
    """The series of a new name begin with the counts: a first value is no increase."""
    naming = Naming("a").renamed("b", {FAILED: 3})

    assert naming.exposed({FAILED: 3}) == {FAILED: 3}


def test_an_old_name_goes_on_where_it_ended() -> None:
    """What was seen under another name is not seen again when the first one returns."""
    naming = Naming("a").renamed("b", {FAILED: 3}).renamed("a", {FAILED: 5})

    assert naming.exposed({FAILED: 5}) == {FAILED: 3}
    assert naming.exposed({FAILED: 6}) == {FAILED: 4}
    assert naming.counts({FAILED: 4}) == {FAILED: 6}


def test_a_series_of_later_is_new_to_an_old_name() -> None:
    """A series that came under another name begins with its count."""
    naming = Naming("a").renamed("b", {FAILED: 3}).renamed("a", {FAILED: 3, OTHER: 2})

    assert naming.exposed({FAILED: 3, OTHER: 2}) == {FAILED: 3, OTHER: 2}


def test_a_late_answer() -> None:
    """What an answer showed that was on its way at the end of a name is not shown again."""
    naming = Naming("a").renamed("b", {FAILED: 3}).seen_late("a", {FAILED: 4})

    assert naming.exposed({FAILED: 4}) == {FAILED: 3}
    assert naming.renamed("a", {FAILED: 4}).exposed({FAILED: 4}) == {FAILED: 4}


def test_a_late_answer_without_news() -> None:
    """An answer that showed nothing more, or whose name is forgotten, changes nothing."""
    naming = Naming("a").renamed("b", {FAILED: 3})

    assert naming.seen_late("a", {FAILED: 3}) is naming
    assert naming.seen_late("c", {FAILED: 9}) is naming


def test_few_names_are_remembered() -> None:
    """The latest names are remembered; the series of an older one begin anew."""
    naming = Naming("first")
    for number in range(MAX_FORMER_NAMES + 1):
        naming = naming.renamed(f"n{number}", {FAILED: number})

    assert len(naming.former) == MAX_FORMER_NAMES
    assert naming.renamed("first", {FAILED: 9}).exposed({FAILED: 9}) == {FAILED: 9}
    assert naming.renamed("n0", {FAILED: 9}).exposed({FAILED: 9}) == {FAILED: 1}


def test_projects_have_names_of_their_own() -> None:
    """The same name in another project makes other series."""
    assert name_of(Instance("i", "orders", "prod")) != name_of(Instance("i", "orders", "test"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=20))
def test_every_increase_is_seen_once(steps: list[tuple[str, int]]) -> None:
    """Whatever the names, the increases of all series together are those of the counts."""
    naming, count = Naming("a"), 0
    last: dict[str, int] = {"a": 0}
    seen: Counter[str] = Counter()
    for name, more in steps:
        naming = naming.renamed(name, {FAILED: count})
        for grown in (count, count + more):  # the first sample under a name, and a later one
            now = naming.exposed({FAILED: grown})[FAILED]
            seen[name] += now - last.get(name, now)
            assert now >= last.get(name, now)
            last[name] = now
        count += more

    assert sum(seen.values()) == count


def test_a_series_that_stands_still_elsewhere() -> None:
    """Of two series only the one that grew under another name has counts elsewhere."""
    naming = Naming("a").renamed("b", {FAILED: 3, OTHER: 1}).renamed("a", {FAILED: 5, OTHER: 1})

    assert naming.elsewhere == {FAILED: 2}
    assert naming.exposed({FAILED: 5, OTHER: 1}) == {FAILED: 3, OTHER: 1}
    assert naming.counts({FAILED: 3, OTHER: 1}) == {FAILED: 5, OTHER: 1}


def test_a_series_that_is_gone() -> None:
    """A series of a former name that is not shown any more counts from 0."""
    naming = Naming("b", former={"a": {FAILED: 0}}).renamed("a", {})

    assert naming.elsewhere == {}


def test_a_late_answer_with_a_new_series() -> None:
    """A series that only a late answer showed was seen from 0 on."""
    naming = Naming("a").renamed("b", {FAILED: 3}).seen_late("a", {FAILED: 3, OTHER: 1})

    assert naming.elsewhere == {OTHER: 1}
    assert naming.former["a"] == {FAILED: 3, OTHER: 1}
