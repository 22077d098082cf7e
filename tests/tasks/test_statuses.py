"""What the status words mean: known ones in any spelling, added ones, and unforeseen ones."""

from __future__ import annotations

import pytest

from dcs_task_exporter.tasks.statuses import STATUS_WORDS, Outcome, StatusTable

TABLE = StatusTable({"BROKEN": Outcome.FAILURE, "SUCCESS": Outcome.FAILURE})


@pytest.mark.parametrize("word", STATUS_WORDS)
def test_known_words(word: str) -> None:
    """A known word means the same in upper and in lower case, and no configuration changes it."""
    assert TABLE.outcome(word) is TABLE.outcome(word.lower()) is STATUS_WORDS[word]


def test_added_words() -> None:
    """A word of the configuration has its meaning; without it, the word is unforeseen."""
    assert TABLE.outcome("broken") is Outcome.FAILURE
    assert StatusTable().outcome("BROKEN") is Outcome.UNKNOWN


@pytest.mark.parametrize("word", ["", "PAUSED", "SUCCESSFUL"])
def test_unforeseen_words(word: str) -> None:
    """An unforeseen word is unknown, and its task is not finished."""
    assert TABLE.outcome(word) is Outcome.UNKNOWN
    assert not TABLE.outcome(word).finished


def test_finished() -> None:
    """A task has finished when it succeeded, failed or ended otherwise."""
    finished = {outcome for outcome in Outcome if outcome.finished}

    assert finished == {Outcome.SUCCESS, Outcome.FAILURE, Outcome.ENDED}
