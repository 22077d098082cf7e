"""Change a sample of the code, one small change at a time, and list what no unit test notices.

mutmut makes the changes (mutants), leaves out those that mypy refuses, and runs those tests that
execute the changed function. Mutants that change only the wording of a text for people are left
out: `LOGGING` and `is_wording` say which. Each package is changed in a copy of the tree and meets
only its own tests, those of `PACKAGES`: what another package's tests notice by chance counts for
nothing.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".mutants"
REASONS = ROOT / "tests" / "surviving_mutants.yaml"
SOURCE = "dcs_task_exporter"

LOGGING = r"logger\.\w+|message = |\bfields = |\bextra="
"""Lines whose mutants are left out: they change only a message, or the fields of a log line."""

TEXT_FOR_PEOPLE = re.compile(r"[a-z'] [a-z]")
"""Two words in a literal. SQL has capitals, and neither headers nor keys have a blank like that."""

SQL = re.compile(r"(PRAGMA|BEGIN|SELECT|INSERT|DELETE) ")
"""How a statement of SQL begins. In another case its words and names mean the same."""

REFUSED = 37
KILLED = {1, 3}
TIMEOUTS = {-24, 24, 36, 152, 255}
"""What mutmut notes of a mutant: exit statuses of pytest, of a signal, or of its own."""


@dataclass(frozen=True)
class Package:
    """The bar of a package in percent, and its tests beside those in the folder of its name."""

    name: str
    bar: int
    more: tuple[str, ...] = ()

    @property
    def tests(self) -> list[str]:
        """Return all its tests."""
        return [f"tests/{self.name}", *(f"tests/{path}" for path in self.more)]


PACKAGES = (
    Package("cloud", 85, ("faults/test_cloud.py", "laws/test_border.py", "laws/test_laws.py")),
    Package("credentials", 85, ("faults/test_credentials.py", "laws/test_renewed.py")),
    Package("refresh", 85, ("laws/test_counted_once.py", "laws/test_laws.py")),
    Package("state", 85, ("laws/test_counted_once.py",)),
    Package("tasks", 95, ("laws/test_counted_once.py", "metrics/test_last_failure.py")),
)


@dataclass(frozen=True)
class Survivor:
    """A mutant that no test noticed, and how it differs."""

    function: str
    change: str


@dataclass(frozen=True)
class Outcome:
    """How many mutants of a package were refused by mypy, killed or missed."""

    package: Package
    refused: int
    killed: int
    survivors: list[Survivor]

    @property
    def share(self) -> float:
        """Return the percentage of killed mutants, of those that mypy lets pass."""
        return 100 * self.killed / max(1, self.killed + len(self.survivors))


def main() -> int:
    """Print what was killed and what survived; return 1 where a package is below its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="draws another sample")
    parser.add_argument("--each", type=int, default=200, help="mutants of each package")
    parser.add_argument("--list", action="store_true", help="print the names of all mutants here")
    parser.add_argument("packages", nargs="*", help="instead of all")
    chosen = parser.parse_args()
    packages = [each for each in PACKAGES if each.name in (chosen.packages or each.name)]
    if chosen.list:
        say(*(name for package in packages for name in mutants_of(package)))
        return 0
    with ThreadPoolExecutor(2) as pool:  # the set-up of a package keeps only one processor busy
        outcomes = list(pool.map(lambda each: outcome_of(each, chosen.seed, chosen.each), packages))
    known = {(row["function"], row["change"]): row["reason"] for row in reasons()}
    for outcome in outcomes:
        for one in outcome.survivors:
            reason = known.get((one.function, one.change), f"NO REASON in {REASONS.name}")
            say("", one.function, one.change, f"  {reason}")
    say("", "package      killed  survived  refused by mypy  share  bar")
    for outcome in outcomes:
        package = outcome.package
        say(
            f"{package.name:11} {outcome.killed:7} {len(outcome.survivors):9} {outcome.refused:16} "
            f"{outcome.share:5.1f}% {package.bar:3}%"
        )
    return int(any(outcome.share < outcome.package.bar for outcome in outcomes))


def say(*lines: str) -> None:
    """Print lines."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def reasons() -> list[dict[str, str]]:
    """Return the survivors that are known, each with its reason."""
    return yaml.safe_load(REASONS.read_text()) or []


def outcome_of(package: Package, seed: int, number: int) -> Outcome:
    """Test a sample of the mutants of a package."""
    folder = WORK / package.name
    copy_tree(folder)
    configure(folder, package)
    # In a process of its own: mutmut reads its configuration where it is.
    listing = [sys.executable, __file__, "--list", package.name]
    listed = subprocess.run(listing, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
    names = listed.stdout.split()
    drawn = random.Random(seed).sample(names, min(number, len(names)))  # noqa: S311 - no secret
    mutmut = [sys.executable, "-m", "mutmut"]
    with (folder / "mutmut.log").open("w") as log:
        subprocess.run(  # noqa: S603 - our own
            [*mutmut, "run", "--max-children=1", *drawn],
            cwd=folder,
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    found = {name: status for name, status in statuses(folder) if name in drawn}
    counted = Counter(found.values())
    return Outcome(
        package,
        refused=counted[REFUSED],
        killed=sum(counted[status] for status in KILLED | TIMEOUTS),
        survivors=[
            survivor(folder, name)
            for name, status in sorted(found.items())
            if status not in KILLED | TIMEOUTS | {REFUSED}
        ],
    )


def copy_tree(folder: Path) -> None:
    """Copy what git tracks, or would track, to an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    for name in filter(None, done.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def configure(folder: Path, package: Package) -> None:
    """Tell mutmut what to change and what to run.

    mutmut writes comments `type: ignore` without a code, which our mypy would report.
    """
    project = folder / "pyproject.toml"
    text = project.read_text().replace('"ignore-without-code", ', "")
    others = sorted(path.name for path in folder.iterdir() if path.name != SOURCE)
    mypy = [sys.executable, "-m", "mypy", SOURCE, "--output=json"]
    settings = {
        "source_paths": [SOURCE],
        "only_mutate": [f"{SOURCE}/{package.name}/*"],
        "also_copy": others,
        "do_not_mutate_patterns": [LOGGING],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "--timeout=600"],
        "pytest_add_cli_args_test_selection": ["-m", "not real", *package.tests],
        "process_isolation": "forkserver",  # the tests start threads
        "type_check_command": [*mypy, "--disable-error-code=unused-ignore"],
        "timeout_multiplier": 2.0,
        "timeout_constant": 10.0,
    }
    # JSON's lists, texts and numbers are TOML's too.
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    project.write_text(f"{text}\n[tool.mutmut]\nuse_git_change_detection = false\n{rows}")


def mutants_of(package: Package) -> Iterator[str]:
    """Yield the names of the mutants that mutmut makes of a package, in the current folder.

    Those that change only the wording of a text for people are left out.
    """
    for path in sorted(Path(SOURCE, package.name).glob("*.py")):
        mutated = mutate_file_contents(str(path), path.read_text())
        nodes = ast.walk(ast.parse(mutated.code))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        functions = {node.name: node for node in nodes if isinstance(node, kinds)}
        for name in mutated.mutant_names:
            original = functions[f"{name.rpartition('_')[0]}_orig"]
            if not is_wording(original, functions[name]):
                yield get_mutant_name(path, name)


def is_wording(original: ast.AST, mutant: ast.AST) -> bool:
    """Whether a mutant changes only a text for people, the name of a thread, or the case of SQL.

    It then puts XX into a literal, or changes the case of its letters. The literal has two words,
    or stands within an f-string that has two. One that is compared with something is no such text.
    """
    path = list(path_to_change(original, mutant))
    old, new = path[-1]
    if not (isinstance(old, ast.Constant) and isinstance(new, ast.Constant)):
        return False
    if not (isinstance(old.value, str) and isinstance(new.value, str)):
        return False
    if new.value.replace("XX", "").lower() != old.value.lower():
        return False
    if SQL.match(old.value) and new.value.lower() == old.value.lower():
        return True
    around = [node for node, _ in path]
    if isinstance(around[-2], ast.Compare):
        return False
    of_a_thread = isinstance(around[-2], ast.keyword) and "Thread" in ast.unparse(around[-3])
    return of_a_thread or any(
        TEXT_FOR_PEOPLE.search(str(part.value))
        for node in (around[-1], *around)
        for part in (node.values if isinstance(node, ast.JoinedStr) else [node])
        if isinstance(part, ast.Constant)
    )


def path_to_change(original: ast.AST, mutant: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield the nodes that differ, each with its mutated form, from the outermost inwards."""
    yield original, mutant
    if type(original) is not type(mutant):
        return
    pairs = zip(ast.iter_child_nodes(original), ast.iter_child_nodes(mutant), strict=False)
    for old, new in pairs:
        if ast.dump(old) != ast.dump(new):
            yield from path_to_change(old, new)
            return


def statuses(folder: Path) -> Iterator[tuple[str, int | None]]:
    """Yield the name of each mutant, and what mutmut noted of it."""
    for path in (folder / "mutants").rglob("*.meta"):
        yield from json.loads(path.read_text())["exit_code_by_key"].items()


def survivor(folder: Path, name: str) -> Survivor:
    """Return how a mutant differs from the code."""
    command = [sys.executable, "-m", "mutmut", "show", name]
    shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
    lines = re.findall(r"^[-+](?![-+]{2} ).*", shown.stdout, re.MULTILINE)
    function = name.rpartition("__mutmut_")[0].replace(".xǁ", ".").replace(".x_", ".")
    return Survivor(function.replace("ǁ", "."), "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
