"""Where the project, its test data and the real programs are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent
TESTDATA = ROOT / "tests" / "testdata"
IN_CI = os.environ.get("CI") == "true"


def real_part(path: Path | str, what: str) -> Path:
    """Return a program that the tests need: required in CI, a skip with its reason elsewhere."""
    found = shutil.which(path)
    if found is None:
        missing(f"{what} is not here: run scripts/install-test-tools")
    return Path(found)


def missing(reason: str) -> NoReturn:
    """Skip a test, for this reason; in CI, where nothing may be missing, fail it."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
