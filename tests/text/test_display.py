"""Text from outside that is shown: valid, bounded, and nothing that a terminal obeys."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from dcs_task_exporter.cloud.values import id_of, text_of
from dcs_task_exporter.text.display import MAX_LABEL, identifier, shown


@given(st.text(st.characters(), max_size=2 * MAX_LABEL), st.integers(10, 400))
@example("\ud83d\x1b\u2028\n", 256)
def test_text_that_is_shown(text: str, limit: int) -> None:
    """Text that is shown is valid UTF-8, bounded, and holds nothing that a terminal obeys."""
    told = shown(text, limit)
    assert len(told) <= limit
    assert not set(told) & {chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x202E)}
    told.encode()
    assert len(text_of(text)) <= MAX_LABEL


@given(
    st.sets(st.text(st.characters(), max_size=600), min_size=2, max_size=5), st.text(min_size=250)
)
def test_ids_stay_different(ends: set[str], begin: str) -> None:
    """Two ids that differ still differ when they are cut, and are at most a label long."""
    ids = [begin + end for end in ends]
    told = [identifier(text) for text in ids]
    assert len(set(told)) == len(ids)
    assert all(len(text) <= MAX_LABEL for text in told)
    assert identifier(id_of(ids[0])) == id_of(ids[0])
