"""The command line: chooses the command, and turns errors into an exit status.

The exit status is 0 when everything worked, 1 when something failed, 2 when the configuration or a
flag is wrong, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import Final

from dcs_task_exporter import __version__
from dcs_task_exporter.arguments import help_of, parse_flags
from dcs_task_exporter.commands.output import ReaderGoneError, say, warn, write
from dcs_task_exporter.errors import ConfigError, ExporterError, MistakesError
from dcs_task_exporter.flags import PROGRAM
from dcs_task_exporter.logs.formats import set_up_logging

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

COMMANDS: Final = {
    "serve": "dcs_task_exporter.commands.serve:serve",
    "check": "dcs_task_exporter.commands.check:check",
    "scrape": "dcs_task_exporter.commands.scrape:scrape",
    "tasks": "dcs_task_exporter.commands.tasks:tasks",
    "state show": "dcs_task_exporter.commands.state:state_show",
    "state verify": "dcs_task_exporter.commands.state:state_verify",
    "ready": "dcs_task_exporter.commands.ready:ready",
    "demo": "dcs_task_exporter.demo.run:demo",
}
"""Each command's function, whose module is loaded when it is run: a health check needs little."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        return OK if _run(sys.argv[1:] if argv is None else argv) else FAILED
    except ReaderGoneError:
        return FAILED
    except ExporterError as error:
        names_files = isinstance(error, ConfigError | MistakesError)
        warn(str(error) if names_files else f"{PROGRAM}: {error}")
        return MISUSED if error.is_misuse else FAILED
    except KeyboardInterrupt:
        warn(f"{PROGRAM}: interrupted")
        return INTERRUPTED


def _run(argv: Sequence[str]) -> bool:
    arguments = parse_flags(argv)
    if arguments.help:
        write(help_of(arguments.command, with_commands=arguments.is_default))
        return True
    if arguments.version:
        say(f"{PROGRAM} {__version__}")
        return True
    log = set_up_logging(arguments.log_level, arguments.log_format, sys.stderr)
    try:
        command: Callable[[argparse.Namespace], bool]
        command = pkgutil.resolve_name(COMMANDS[arguments.command])
        return command(arguments)
    finally:
        log.close()
