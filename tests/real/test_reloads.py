"""Ten reloads under two real Prometheus servers; `python -m bench reloads` does a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.reloads import report, run
from tests.support.real_parts import ROOT, real_part


@pytest.mark.real
@pytest.mark.long(50)
def test_nothing_is_lost(tmp_path: Path) -> None:
    """No scrape fails, and no task is lost or counted twice."""
    folders = [ROOT / ".tools" / f"prometheus-{major}" for major in ("2", "3")]
    binaries = [real_part(folder / "prometheus", "Prometheus") for folder in folders]
    result = run(binaries, tmp_path, reloads=10, instances=40)

    assert result.lossless, report(result)
    assert result.refused == 1
