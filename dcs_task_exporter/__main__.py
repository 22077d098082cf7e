"""The start of the program, as ``dcs-task-exporter`` or ``python -m dcs_task_exporter``."""

from __future__ import annotations

import sys

from dcs_task_exporter.commands.output import warn

INTERRUPTED = 130


def main() -> int:
    """Load the command line, run it, and return the exit status.

    While it loads, Ctrl-C ends the program with one line, as it does later.
    """
    try:
        from dcs_task_exporter import cli  # noqa: PLC0415 - a Ctrl-C while it loads is caught
    except KeyboardInterrupt:
        warn("dcs-task-exporter: interrupted")
        return INTERRUPTED
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
