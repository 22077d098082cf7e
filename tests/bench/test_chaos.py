"""A short chaos run: killed again and again, the exporter still counts every task once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos import run
from bench.chaos_counts import report


@pytest.mark.real
@pytest.mark.long(35)
@pytest.mark.parametrize("prometheus_major", ["3"], indirect=True)
def test_chaos(prometheus: Path, tmp_path: Path) -> None:
    """After four kills, Prometheus' increase() is what the cloud says happened."""
    result = run(prometheus, tmp_path, seconds=16, kills=4, instances=6)

    assert result.good, report(result)
