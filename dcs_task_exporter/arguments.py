"""From the words of a command line to the values of its flags.

One parser reads all flags, wherever they stand: a flag means the same before its command and after
it, and a command refuses the flags of the others in both places.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn

from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.flags import COMMANDS, FLAGS, PROGRAM, Flag

DEFAULT_COMMAND: Final = "serve"

_HELP: Final = ("-h", "--help")
_VERSION: Final = "--version"


class UsageError(ExporterError):
    """A command line that cannot be understood: names the word, and what to write instead."""

    is_misuse = True


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors, and sets only the flags that are given."""

    def __init__(self, flags: Iterable[Flag], *, with_version: bool, **texts: Any) -> None:  # noqa: ANN401 - argparse has the types
        super().__init__(
            **texts,
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for flag in flags:
            self.add_argument(flag.name, dest=flag.dest, **flag.settings)
        self.add_argument(*_HELP, action="store_true", default=False, help="show this help")
        if with_version:
            self.add_argument(_VERSION, action="store_true", default=False, help="show the version")

    def error(self, message: str) -> NoReturn:
        """Raise the error, in words that begin with the flag."""
        raise UsageError(message.removeprefix("argument "))


def parse_flags(words: Sequence[str]) -> argparse.Namespace:
    """Return the values of all flags that the command takes, and its name as `command`.

    `is_default` tells that no command was named; `help` and `version`, that the help or the version
    is wanted. Raises `UsageError`.
    """
    given, rest = _Parser(FLAGS.values(), with_version=True).parse_known_args(words)
    command = _command_of(rest)
    taken = COMMANDS[command].flags
    names = {flag.name for flag in taken}
    for flag in FLAGS.values():
        if flag.dest in given and flag.name not in names:
            subject = command if rest else f"{command}, the command where none is named,"
            message = f"{subject} does not take {flag.name}: {_takers(flag)}"
            raise UsageError(message)
    values = {flag.dest: flag.default for flag in taken} | vars(given)
    return argparse.Namespace(**values, command=command, is_default=not rest)


def _command_of(rest: Sequence[str]) -> str:
    """Return the command, from the words of a command line that are no known flags."""
    for word in rest:
        if word.startswith("-"):
            name = word.partition("=")[0]
            message = f"there is no flag {name}{_nearest(name, (*FLAGS, *_HELP, _VERSION))}"
            raise UsageError(message)
    words = list(rest or [DEFAULT_COMMAND])
    for command in COMMANDS:
        parts = command.split()
        if words[: len(parts)] == parts:
            if more := words[len(parts) :]:
                message = f"{command} takes flags only, not {more[0]!r}"
                raise UsageError(message)
            return command
    raise UsageError(_no_command(words))


def _no_command(words: Sequence[str]) -> str:
    """Return what is wrong with words that are no command; some commands have two words."""
    longer = [command for command in COMMANDS if command.startswith(f"{words[0]} ")]
    named = " ".join(words[:2] if longer else words[:1])
    hint = "" if longer and len(words) == 1 else _nearest(named, COMMANDS)
    known = ", ".join(longer or COMMANDS)
    return f"there is no command {named!r}{hint or f'; the commands are {known}'}"


def help_of(command: str, *, with_commands: bool = False) -> str:
    """Return the help of a command; `with_commands` adds the list of all commands."""
    described = COMMANDS[command]
    usage, text = f"{PROGRAM} {command} [flags]", f"{described.summary.capitalize()}."
    if with_commands:
        width = max(map(len, COMMANDS))
        commands = "\n".join(f"  {name:{width}}  {COMMANDS[name].summary}" for name in COMMANDS)
        usage = f"{PROGRAM} [command] [flags]"
        text = (
            f"Prometheus exporter for the background tasks of Huawei Cloud DCS.\n\n"
            f"commands:\n{commands}\n\n"
            f"Without a command it serves, with the flags below. Each command has its own --help."
        )
    texts = {"usage": usage, "description": text, "epilog": described.epilog}
    return _Parser(described.flags, with_version=with_commands, **texts).format_help()


def _takers(flag: Flag) -> str:
    *others, last = [
        name
        for name, command in COMMANDS.items()
        if flag.dest in (one.dest for one in command.flags)
    ]
    return f"it is a flag of {', '.join(others)}{' and ' if others else ''}{last}"


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
