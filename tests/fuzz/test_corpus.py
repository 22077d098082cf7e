"""What fuzzing found once stays mended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fuzz.checks import verify
from fuzz.targets import TARGETS, seeds_of
from tests.support.real_parts import ROOT

CORPUS = ROOT / "fuzz" / "corpus"
INPUTS = sorted(CORPUS.glob("*/*"))

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")  # old versions are input too


@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}-{path.name}" for path in INPUTS])
def test_input(path: Path) -> None:
    """What a fuzzer found raises documented errors only, and is shown as valid text."""
    verify(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    """So does all that a fuzzer begins with."""
    for seed in seeds_of(target):
        verify(TARGETS[target], seed)


def test_all_are_fuzzed() -> None:
    """`make fuzz`, which the nightly workflow runs, leaves no target out, and the corpus fits."""
    makefile = (ROOT / "Makefile").read_text()
    listed = re.findall(r"^FUZZ := ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[0]

    assert set(listed.replace("\\", "").split()) == set(TARGETS)
    assert {path.parent.name for path in INPUTS} <= set(TARGETS)
    assert "make fuzz" in (ROOT / ".github" / "workflows" / "nightly.yml").read_text()


@pytest.mark.parametrize("status", [200, 429, 500])
def test_the_net_hides_nothing(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client catches because nobody foresaw it is found even so, whatever the answer."""

    def break_down(_: bytes) -> None:
        raise OverflowError

    monkeypatch.setattr("dcs_task_exporter.cloud.responses.json.loads", break_down)

    with pytest.raises(OverflowError):
        verify(TARGETS["error_answers"], b"%d\n\n{}" % status)
