"""The table of what clients that hang cost: each kind of row runs, with few clients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.bad_clients import ROWS, line, measure


@pytest.mark.parametrize("name", ["silent TLS", "slow readers", "wrong passwords"])
def test_row(name: str) -> None:
    """Somebody beside a few such clients is answered, and the exporter ends when it is told to."""
    row = replace(next(row for row in ROWS if row.name == name), clients=5)

    result = measure(row)

    assert max(*result.before.values(), *result.beside.values(), result.end) < math.inf
    assert (result.size > 0.01, "none in" in line(row, result)) == (True, False)
