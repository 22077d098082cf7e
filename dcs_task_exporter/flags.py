"""The flags, and which command takes each; from the words of a command line to their values.

One parser reads all flags, wherever they stand: a flag means the same before its command and after
it, and one that its command does not take is an error in both places.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.logs.formats import FORMATS, LEVELS
from dcs_task_exporter.simulator import DEMO_KEY
from dcs_task_exporter.web.listen import parse_listen_address
from dcs_task_exporter.web.settings import WebSettings

PROGRAM: Final = "dcs-task-exporter"
DEFAULT_CONFIG: Final = Path("dcs-task-exporter.yml")
DEFAULT_ADDRESS: Final = ":39327"
DEFAULT_COMMAND: Final = "serve"


class UsageError(ExporterError):
    """A command line that cannot be understood: the message says which word, and what to write."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: its name, the attribute that holds its value, and what `argparse` takes for it."""

    name: str
    dest: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what its help says of it, its flags, and where it listens unless told.

    `epilog` is what its help says at the end.
    """

    summary: str
    flags: tuple[Flag, ...]
    address: str = DEFAULT_ADDRESS
    epilog: str = ""


def _listen_address(text: str) -> tuple[str, int]:
    try:
        return parse_listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url_path(text: str) -> str:
    message = f"not a path for metrics: {text!r}; write it like /metrics"
    if text == "/":
        raise argparse.ArgumentTypeError(message)
    try:
        return WebSettings(telemetry_path=text).telemetry_path
    except ValueError:
        raise argparse.ArgumentTypeError(message) from None


def _file(text: str) -> Path:
    if not text:
        message = "the name of a file is expected, not an empty text"
        raise argparse.ArgumentTypeError(message)
    return Path(text)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        message = f"a whole number is expected, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None


_CONFIG: Final = (
    Flag(
        "--config.file",
        "config_file",
        {
            "type": _file,
            "metavar": "PATH",
            "help": f"configuration file (default: {DEFAULT_CONFIG}, or the environment "
            "without one)",
        },
    ),
    Flag(
        "--total-shards",
        "total_shards",
        {
            "type": _number,
            "default": 1,
            "metavar": "N",
            "help": "number of exporters that share the instances (default: %(default)s)",
        },
    ),
    Flag(
        "--shard",
        "shard",
        {
            "type": _number,
            "metavar": "I",
            "help": "which of them this one is, from 0 (default: the number of the "
            "StatefulSet's pod)",
        },
    ),
)

_LOG: Final = (
    Flag(
        "--log.level",
        "log_level",
        {
            "choices": LEVELS,
            "default": "info",
            "metavar": "LEVEL",
            "help": f"lowest level that is logged: {', '.join(LEVELS)} (default: %(default)s)",
        },
    ),
    Flag(
        "--log.format",
        "log_format",
        {
            "choices": FORMATS,
            "default": "logfmt",
            "metavar": "FORMAT",
            "help": f"form of a log line: {', '.join(FORMATS)} (default: %(default)s)",
        },
    ),
)

_WEB_CONFIG: Final = Flag(
    "--web.config.file",
    "web_config_file",
    {
        "type": _file,
        "metavar": "PATH",
        "help": "TLS, basic auth and headers, in the exporter-toolkit's format (default: none)",
    },
)


def _web(address: str) -> tuple[Flag, ...]:
    return (
        Flag(
            "--web.listen-address",
            "addresses",
            {
                "action": "append",
                "type": _listen_address,
                "metavar": "HOST:PORT",
                "help": f"address to listen on; may be repeated (default: {address})",
            },
        ),
        Flag(
            "--web.telemetry-path",
            "telemetry_path",
            {
                "type": _url_path,
                "default": "/metrics",
                "metavar": "PATH",
                "help": "path of the metrics (default: %(default)s)",
            },
        ),
    )


def _switch(name: str, dest: str, told: str) -> Flag:
    return Flag(name, dest, {"action": "store_true", "help": told})


_ONLINE: Final = _switch(
    "--online", "online", "also try the key, discovery and the task centre, and read each instance"
)
_VERBOSE: Final = _switch("--verbose", "verbose", "with --online: list all instances, not only 20")
_JSON: Final = _switch("--json", "json", "a JSON object for each instance")

_DEMO_ADDRESS: Final = "127.0.0.1:39327"
_DEMO_KEY: Final = f"""\
The key of the simulated cloud, to try the other commands against it (see docs/demo.md):
  access key  {DEMO_KEY[0]}
  secret key  {DEMO_KEY[1]}
  region      cn-north-4
The first line of the demo says where its cloud is.
"""

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "serve": Command(
            "serve /metrics (the default)",
            (*_CONFIG, *_LOG, *_web(DEFAULT_ADDRESS), _WEB_CONFIG),
        ),
        "check": Command(
            "check the configuration", (*_CONFIG, _WEB_CONFIG, *_LOG, _ONLINE, _VERBOSE)
        ),
        "scrape": Command("read all instances once and print the metrics", (*_CONFIG, *_LOG)),
        "tasks": Command(
            "read all instances once and list their latest tasks", (*_CONFIG, *_LOG, _JSON)
        ),
        "demo": Command(
            "run against a simulated cloud, without an account",
            (*_LOG, *_web(_DEMO_ADDRESS)),
            _DEMO_ADDRESS,
            _DEMO_KEY,
        ),
    }
)

FLAGS: Final[Mapping[str, Flag]] = MappingProxyType(
    {flag.name: flag for command in COMMANDS.values() for flag in command.flags}
)
"""The flags of all commands, by name."""

_HELP: Final = ("-h", "--help")
_VERSION: Final = "--version"


class _Parser(argparse.ArgumentParser):
    """A parser that raises what it cannot understand."""

    def error(self, message: str) -> NoReturn:
        """Raise it, in words that begin with the flag."""
        raise UsageError(message.removeprefix("argument "))


def parse_flags(words: Sequence[str]) -> argparse.Namespace:
    """Return the values of all flags that the command takes, and its name as `command`.

    `is_default` says whether no command was named; `help` and `version`, whether these are all
    that was asked for. Raises `UsageError`.
    """
    given, rest = _parser_of_all().parse_known_args(words)
    command = _command_of(rest)
    arguments = _parser_of(command).parse_args([])
    for flag in FLAGS.values():
        if flag.dest in given:
            if flag.name not in _names_of(command):
                told = command if rest else f"{command}, the command where none is named,"
                message = f"{told} does not take {flag.name}: {_who_takes(flag.name)}"
                raise UsageError(message)
            setattr(arguments, flag.dest, getattr(given, flag.dest))
    arguments.command, arguments.is_default = command, not rest
    arguments.help, arguments.version = given.help, given.version
    return arguments


def _command_of(rest: Sequence[str]) -> str:
    """Return the command that is all that is left of a command line without its known flags."""
    for word in rest:
        if word.startswith("-"):
            name = word.partition("=")[0]
            message = f"there is no flag {name}{_nearest(name, (*FLAGS, *_HELP, _VERSION))}"
            raise UsageError(message)
    command, *more = rest or [DEFAULT_COMMAND]
    if command not in COMMANDS:
        known = _nearest(command, COMMANDS) or f"; the commands are {', '.join(COMMANDS)}"
        message = f"there is no command {command!r}{known}"
        raise UsageError(message)
    if more:
        message = f"{command} takes flags only, not {more[0]!r}"
        raise UsageError(message)
    return command


def help_of(command: str, *, with_commands: bool = False) -> str:
    """Return the help of a command; with the list of all commands where none was named."""
    parser = _parser_of(command)
    parser.usage = f"{PROGRAM} {command} [flags]"
    parser.description = f"{COMMANDS[command].summary.capitalize()}."
    parser.epilog = COMMANDS[command].epilog
    if with_commands:
        parser.usage = f"{PROGRAM} [command] [flags]"
        width = max(map(len, COMMANDS))
        listed = "\n".join(f"  {name:{width}}  {COMMANDS[name].summary}" for name in COMMANDS)
        parser.description = (
            f"Prometheus exporter for the background tasks of Huawei Cloud DCS.\n\n"
            f"commands:\n{listed}\n\n"
            f"Without a command it serves, with the flags below. Each command has its own --help."
        )
        parser.add_argument(_VERSION, action="store_true", help="show the version")
    return parser.format_help()


def _names_of(command: str) -> Sequence[str]:
    return [flag.name for flag in COMMANDS[command].flags]


def _who_takes(name: str) -> str:
    *others, last = [command for command in COMMANDS if name in _names_of(command)]
    return f"it is a flag of {', '.join(others)}{' and ' if others else ''}{last}"


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _parser_of_all() -> argparse.ArgumentParser:
    """Return the parser of every flag, which sets only what is given."""
    parser = _Parser(PROGRAM, add_help=False, allow_abbrev=False)
    for flag in FLAGS.values():
        settings = {**flag.settings, "default": argparse.SUPPRESS}
        parser.add_argument(flag.name, dest=flag.dest, **settings)
    parser.add_argument(*_HELP, action="store_true")
    parser.add_argument(_VERSION, action="store_true")
    return parser


def _parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of the flags of one command, for its help and its defaults."""
    parser = _Parser(
        add_help=False, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag in COMMANDS[command].flags:
        parser.add_argument(flag.name, dest=flag.dest, **flag.settings)
    parser.add_argument(*_HELP, action="store_true", help="show this help")
    parser.set_defaults(default_address=parse_listen_address(COMMANDS[command].address))
    return parser
