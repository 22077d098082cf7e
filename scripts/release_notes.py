"""Print what is new in a release, for its page; fail if something is missing for the release.

python scripts/release_notes.py v0.1.0
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TO_FILL_IN: Final = "to be filled in by the maintainers before the first release"
WITH_GAPS: Final = ("pyproject.toml", "SECURITY.md")
"""The files with a place that only the maintainers can fill in."""


def notes(changelog: str, version: str) -> str:
    """Return the changelog's text of a version; empty if it is not there with its date."""
    found = re.search(
        rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n+(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    return found[1].strip() if found else ""


def missing(root: Path, tag: str) -> Iterator[str]:
    """Yield what is missing for a release with this tag."""
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    # Without tomllib: Python 3.10 does not have it.
    found = re.search(r'^version = "(.*)"$', project, re.MULTILINE)
    version = found[1] if found else ""
    if tag != f"v{version}":
        yield f"the tag {tag or 'TAG'} is not v{version}, the version in pyproject.toml"
    if not notes((root / "CHANGELOG.md").read_text(encoding="utf-8"), version):
        yield f"CHANGELOG.md has no text under `## {version} - YYYY-MM-DD`"
    for name in WITH_GAPS:
        for number, line in enumerate((root / name).read_text(encoding="utf-8").splitlines(), 1):
            if TO_FILL_IN in line:
                yield f"{name}:{number}: {line.strip('#>* ')}"


def main() -> int:
    """Print the notes and return 0; or print what is missing, and return 1."""
    tag = sys.argv[1] if len(sys.argv) > 1 else ""
    if problems := list(missing(ROOT, tag)):
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        return 1
    sys.stdout.write(f"{notes((ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), tag[1:])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
