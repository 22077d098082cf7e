"""What is read from the answers, and remembered of them: the same bytes are parsed once."""

from __future__ import annotations

from dcs_task_exporter.cloud.responses import AnswerMemory, error_of
from dcs_task_exporter.cloud.transport import Answer
from tests.support.clouds import scrape, value, world


def test_the_same_bytes() -> None:
    """The same bytes are recognized; any others are not."""
    memory: AnswerMemory[str] = AnswerMemory()
    assert memory.recall(b"one") is None
    memory.keep(b"one", "parsed")

    assert memory.recall(bytes(bytearray(b"one"))) == "parsed"
    assert memory.recall(b"onf") is None
    assert memory.recall(b"") is None


def test_only_the_latest() -> None:
    """Only the latest answer is kept."""
    memory: AnswerMemory[str] = AnswerMemory()
    memory.keep(b"one", "first")
    memory.keep(b"two", "second")

    assert memory.recall(b"one") is None
    assert memory.recall(b"two") == "second"


def test_a_bad_answer_is_not_kept() -> None:
    """An answer that cannot be parsed is an error each time that it comes."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.faults.add("task_without_id")
        for _ in range(3):
            found = scrape(exporter, here.clock)
            assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 0


def test_a_pause_until_a_date() -> None:
    """A Retry-After that is a date is the time until then, and none if it has passed."""
    answer = Answer(429, {"Retry-After": "Wed, 17 Jun 2020 07:38:42 GMT"}, b"{}")
    moment = 1_592_379_522.0

    assert error_of(answer, moment - 22).retry_after == 22
    assert error_of(answer, moment + 22).retry_after == 0
