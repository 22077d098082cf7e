"""Runs each test of a fault with every cause of its row, and once more for its alerts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_rows import row_of
from tests.support.fault_scene import Scene


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes a scene each cause of its row."""
    if "scene" not in metafunc.fixturenames:
        return
    row = row_of(metafunc.definition)
    causes = row.causes or ("shows",)
    is_seen = row.metrics or row.log or row.page
    cases = [
        pytest.param((cause, False), id=cause.replace(" ", "-")) for cause in causes if is_seen
    ]
    cases.append(pytest.param((causes[0], True), id="alerts", marks=pytest.mark.real))
    metafunc.parametrize("scene", cases, indirect=True)


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Scene]:
    """The exporter to which the fault happens."""
    cause, is_long = request.param
    promtool = request.getfixturevalue("promtools")[-1] if is_long else None
    made = Scene(row_of(request.node), cause, tmp_path, caplog, promtool)
    yield made
    made.end()
