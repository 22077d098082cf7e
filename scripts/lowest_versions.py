"""Print the lowest version of each dependency that pyproject.toml allows, for pip."""

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def main() -> int:
    """Print the versions; return 1 if a dependency has no lower bound."""
    # Without tomllib: Python 3.10, which tests the lowest versions, does not have it.
    found = re.search(
        r"^dependencies = \[\n(.*?)^\]", PROJECT.read_text(), re.DOTALL | re.MULTILINE
    )
    names = re.findall(r'^  "([\w.-]+)', found[1] if found else "", re.MULTILINE)
    bounds = dict(re.findall(r'^  "([\w.-]+)>=([\w.]+)', found[1] if found else "", re.MULTILINE))
    for name in names:
        if name not in bounds:
            sys.stderr.write(f"{name} has no lower bound in {PROJECT}\n")
            return 1
        sys.stdout.write(f"{name}=={bounds[name]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
