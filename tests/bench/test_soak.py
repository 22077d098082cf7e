"""A short soak: under faults, reloads and changing keys, each task is still counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import run


@pytest.mark.real
@pytest.mark.long(35)
def test_soak(tmp_path: Path) -> None:
    """In half a minute nothing is lost, doubled or broken, and no secret is written anywhere."""
    told: list[str] = []

    result = run(tmp_path, 24, 1, told.append)

    assert result.good, "\n".join(result.report())
    assert result.ledger.happened
    assert len(told) == 12
