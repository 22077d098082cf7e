"""An exporter that runs as a user without rights, on a file system that it may only read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.real_process import until_listening

USER = 65532
"""The user of the image and of the chart."""

PATIENCE = 30
AS_USER = (
    "setpriv",
    f"--reuid={USER}",
    f"--regid={USER}",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
)
CONFINE = f"""
set -e
python=$1 closed=$2 own=$3
shift 3
if [ -n "$closed" ]; then
  mount --bind "$python" "$own"
  mount -t tmpfs -o mode=0755 tmpfs "$closed"
  mkdir -p "$python"
  mount --move "$own" "$python"
fi
mount -t tmpfs -o uid={USER},gid={USER},mode=0700 tmpfs "$own"
cut -d ' ' -f 5 /proc/self/mountinfo | grep -Fxv "$own" | while read -r place; do
  mount -o remount,bind,ro "$place" 2>/dev/null || true
done
exec "$@"
"""
"""Makes every file system read-only but a folder of its own, then runs a command.

A folder that is closed to others, but has Python in it, as a home folder may, shows that alone.
"""


@dataclass(frozen=True)
class Running:
    """An exporter that serves: where, as which process, and what it printed before."""

    url: str
    process: subprocess.Popen[str]
    lines: Sequence[str]

    @property
    def address(self) -> str:
        """The address, as a flag takes it."""
        return self.url.partition("://")[2]


def confinement(own: Path) -> Sequence[str]:
    """Return what to write before a command; of all folders it may only write to `own`."""
    python = Path(sys.base_prefix)
    closed = next((str(path) for path in (*python.parents,)[::-1] if not _is_open(path)), "")
    script = ("unshare", "--mount", "sh", "-c", CONFINE, "sh", str(python), closed, str(own))
    return (*script, *AS_USER)


def _is_open(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o001)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user can read, unlike those of pytest, while the block lasts."""
    with TemporaryDirectory(prefix="confined-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def need_confinement() -> None:
    """Skip the test, with the reason, where no program can be confined."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not (shutil.which("setpriv") and shutil.which("unshare")):
        pytest.skip("setpriv and unshare are not installed")
    with open_folder() as folder:
        command = [*confinement(folder), sys.executable, "-c", "import dcs_task_exporter"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")  # noqa: S603 - a test's own
    if done.returncode:
        pytest.skip(f"a user without rights cannot run this Python here: {done.stderr}")


@contextmanager
def confined(
    command: Sequence[str], own: Path, environ: Mapping[str, str], cwd: Path = Path("/")
) -> Iterator[Running]:
    """Run an exporter while the block lasts; of all folders it may only write to `own`."""
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*confinement(own), *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environ},
    )
    try:
        url, lines = until_listening(process.stderr or ())
        yield Running(url, process, lines)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
