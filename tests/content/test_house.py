"""The tests mirror the house: a folder for each package, a file for each module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.real_parts import ROOT

PACKAGE = ROOT / "dcs_task_exporter"
TESTS = ROOT / "tests"

BESIDE_THE_PACKAGES = {
    "bench",
    "content",
    "deploy",
    "faults",
    "fuzz",
    "laws",
    "real",
    "support",
    "testdata",
}
"""Folders of tests that mirror no package: each is explained in CONTRIBUTING.md."""

MOST_LINES = 300
"""Lines of the longest module."""

TESTED_TOGETHER: dict[str, tuple[str, str]] = {
    "cloud/test_request.py": (
        "keys.py observer.py",
        "what one request takes and reports",
    ),
    "credentials/test_identity.py": (
        "context.py sources.py temporary_keys.py",
        "each source of credentials that end, asked through its whole exporter",
    ),
    "commands/test_cli.py": (
        """../cli.py check.py check_online.py configuration.py garbage_collection.py one_pass.py
        output.py scrape.py serve.py tasks.py""",
        "run as processes, by their output and exit status",
    ),
    "commands/test_flags.py": ("../arguments.py ../flags.py", "the flags of the commands"),
    "config/test_model.py": (
        """checks.py credentials.py durations.py environment.py loader.py regions.py secrets.py
        types.py yaml_text.py""",
        "a file passes all of them, and all its mistakes are reported at once",
    ),
    "demo/test_demo.py": ("monitoring.py run.py supervisor.py", "one demo, and what it leaves"),
    "laws/test_laws.py": (
        "../errors.py ../exporter.py ../wiring.py",
        "the whole exporter, built as users run it, and every reason of an error",
    ),
    "logs/test_queue.py": ("formats.py repeats.py", "each line passes all three"),
    "metrics/test_renderer.py": (
        "exposition.py families.py",
        "byte for byte what the library writes",
    ),
    "metrics/test_durations.py": ("telemetry.py", "the histogram; laws/ count requests and errors"),
    "refresh/test_clocks.py": (
        "../clock.py",
        "the two ways to read the time, and what is believed",
    ),
    "simulator/test_cloud.py": (
        "access.py faults.py identity.py listing.py quirks.py request.py server.py",
        "one cloud on a port; real/test_sdk_oracle.py proves it faithful",
    ),
    "content/test_alerts_story.py": ("../simulator/story.py", "played through the alerts"),
    "web/test_app.py": ("paths.py", "where the metrics can be served"),
    "web/test_server.py": (
        "connection_limits.py renderings.py",
        "the server on a port, with its limits",
    ),
}
"""Test files that test more modules than the one of their name: which, and why together.

The modules are named as seen from the package of the test file.
"""

ELSEWHERE = {
    (TESTS / file).parent.joinpath(module).resolve().relative_to(TESTS).as_posix(): file
    for file, (named, _reason) in TESTED_TOGETHER.items()
    for module in named.split()
}


def modules() -> Iterator[str]:
    """Yield the path of every module with code of its own, below the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        body = ast.parse(path.read_text()).body
        if any(isinstance(part, ast.FunctionDef | ast.ClassDef) for part in body):
            yield path.relative_to(PACKAGE).as_posix()


def own_file(module: str) -> str:
    """Return the path, below the tests, of the test file that has the name of a module."""
    path = Path(module)
    return path.with_name(f"test_{path.stem.strip('_')}.py").as_posix()


def test_every_module_has_a_test_file() -> None:
    """Each module has a test file of its name in the folder of its package, or a reason."""
    missing = [
        f"write tests/{own_file(module)}, or say in TESTED_TOGETHER which file tests {module}"
        for module in modules()
        if module not in ELSEWHERE and not (TESTS / own_file(module)).exists()
    ]
    assert not missing, "\n".join(missing)


def test_the_exceptions_are_true() -> None:
    """What is tested elsewhere exists, has no test file of its own, and the other file exists."""
    known = set(modules())
    wrong = []
    for module, file in ELSEWHERE.items():
        if module not in known:
            wrong.append(f"{module} is gone: take it out of TESTED_TOGETHER")
        elif (TESTS / own_file(module)).exists():
            wrong.append(f"{module} has a test file: take it out of TESTED_TOGETHER")
        if not (TESTS / file).exists():
            wrong.append(f"tests/{file} is gone: say in TESTED_TOGETHER which file tests {module}")
    assert not wrong, "\n".join(wrong)


def test_every_package_has_a_folder_of_tests() -> None:
    """Each package has a folder of tests with its name, and no other folder looks like one."""
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}

    missing = [f"tests/{name} is not there: every package has one" for name in packages - folders]
    assert not missing, "\n".join(missing)
    assert folders <= packages | BESIDE_THE_PACKAGES


def test_no_module_is_long() -> None:
    """A module has one idea, and at most 300 lines."""
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}

    assert [path for path, length in lengths.items() if length > MOST_LINES] == []


def test_no_test_imports_another() -> None:
    """What two test files share is in `tests/support`."""
    wrong = [
        f"{path.relative_to(ROOT)}: move what it needs of {name} to tests/support"
        for path in sorted(TESTS.rglob("*.py"))
        for statement in ast.walk(ast.parse(path.read_text()))
        for name in imported(statement)
        if name.rpartition(".")[2].startswith("test_") and name.startswith("tests.")
    ]
    assert not wrong, "\n".join(wrong)


def imported(statement: ast.AST) -> list[str]:
    """Return the modules that a statement imports, or may import."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.module:
        return [
            statement.module,
            *(f"{statement.module}.{alias.name}" for alias in statement.names),
        ]
    return []
