"""The flags, and the commands that take them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from dcs_task_exporter.config.durations import parse_duration
from dcs_task_exporter.logs.formats import FORMATS, LEVELS
from dcs_task_exporter.simulator.story import DEMO_KEY
from dcs_task_exporter.web.listen import parse_listen_address
from dcs_task_exporter.web.paths import parse_metrics_path

PROGRAM: Final = "dcs-task-exporter"
DEFAULT_CONFIG: Final = Path("dcs-task-exporter.yml")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag, its default, and the settings that `argparse` takes for it."""

    name: str
    default: object
    settings: Mapping[str, Any]

    @property
    def dest(self) -> str:
        """The attribute that holds the value: `log_level` for ``--log.level``."""
        return self.name.lstrip("-").replace(".", "_").replace("-", "_")


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its flags, and the first and the last words of its help."""

    summary: str
    flags: tuple[Flag, ...]
    epilog: str = ""


def _checked(parse: Callable[[str], Value], hint: str = "") -> Callable[[str], Value]:
    """Return a parser whose `ValueError` becomes an error of the flag, with `hint` as its text."""

    def parse_word(word: str) -> Value:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(hint.format(word) or str(error)) from None

    return parse_word


def _path(word: str) -> Path:
    if not word:
        raise ValueError
    return Path(word)


_FILE: Final = _checked(_path, "expected the name of a file, not an empty text")
_NUMBER: Final = _checked(int, "expected a whole number, not {!r}")
_ADDRESS: Final = _checked(parse_listen_address)
_DURATION: Final = _checked(parse_duration)
_URL_PATH: Final = _checked(parse_metrics_path)


def _choice(name: str, choices: Sequence[str], default: str, text: str) -> Flag:
    text = f"{text}: {', '.join(choices)} (default: {default})"
    metavar = name.rpartition(".")[2].upper()
    return Flag(name, default, {"choices": choices, "metavar": metavar, "help": text})


def _switch(name: str, text: str) -> Flag:
    return Flag(name, default=False, settings={"action": "store_true", "help": text})


def _value(name: str, type_: object, metavar: str, text: str, default: object = None) -> Flag:
    return Flag(name, default, {"type": type_, "metavar": metavar, "help": text})


def _addresses(address: str, text: str = "address to listen on") -> Flag:
    settings = {
        "action": "append",
        "type": _ADDRESS,
        "metavar": "HOST:PORT",
        "help": f"{text}; may be repeated (default: {address})",
    }
    return Flag("--web.listen-address", [parse_listen_address(address)], settings)


def _web(address: str) -> tuple[Flag, ...]:
    path = "path of the metrics (default: /metrics)"
    return (
        _addresses(address),
        _value("--web.telemetry-path", _URL_PATH, "PATH", path, "/metrics"),
    )


_CONFIG_FILE: Final = _value(
    "--config.file",
    _FILE,
    "PATH",
    f"configuration file (default: {DEFAULT_CONFIG}, or the environment without one)",
)
_CONFIG: Final = (
    _CONFIG_FILE,
    _value(
        "--total-shards",
        _NUMBER,
        "N",
        "number of exporters that share the instances (default: 1)",
        1,
    ),
    _value(
        "--shard",
        _NUMBER,
        "I",
        "number of this exporter among them, from 0 (default: the number of the StatefulSet's pod)",
    ),
)
_LOG: Final = (
    _choice("--log.level", LEVELS, "info", "lowest level to log"),
    _choice("--log.format", FORMATS, "logfmt", "format of the log"),
)
_WEB_CONFIG: Final = _value(
    "--web.config.file",
    _FILE,
    "PATH",
    "TLS, users, headers and a rate limit, in the exporter-toolkit's format (default: none)",
)
_SYSTEMD: Final = _switch(
    "--web.systemd-socket", "take the sockets of systemd, not --web.listen-address (Linux only)"
)
_RELOAD: Final = (
    _value(
        "--config.auto-reload-interval",
        _DURATION,
        "DURATION",
        "how often to reload the configuration if its content has changed (default: 0, never)",
        0.0,
    ),
    _switch("--web.enable-lifecycle", "reload the configuration at a POST or PUT of /-/reload"),
)
_PORT: Final = ":39327"
_CHECK: Final = (
    _switch("--online", "also try the key, discovery and the task center, and read each instance"),
    _switch("--verbose", "with --online: list all instances, not only 20"),
)
_JSON: Final = _switch("--json", "print a JSON object for each instance, not a table")

_HEALTHY: Final = _switch(
    "--healthy", "ask only whether it lives, not whether it has read each instance once"
)
_STATE: Final = (
    _CONFIG_FILE,
    _value("--state.file", _FILE, "PATH", "state file (default: state.path of the configuration)"),
)

_DEMO_KEY: Final = f"""\
The key of the simulated cloud, to try the other commands against it (see docs/demo.md):
  access key  {DEMO_KEY[0]}
  secret key  {DEMO_KEY[1]}
  region      cn-north-4
The first line that the demo prints has the address of its cloud.
"""

COMMANDS: Final[Mapping[str, Command]] = {
    "serve": Command(
        "serve /metrics (the default)",
        (*_CONFIG, *_LOG, *_web(_PORT), _SYSTEMD, _WEB_CONFIG, *_RELOAD),
    ),
    "check": Command("check the configuration", (*_CONFIG, _WEB_CONFIG, *_LOG, *_CHECK)),
    "scrape": Command("read all instances once and print the metrics", (*_CONFIG, *_LOG)),
    "tasks": Command(
        "read all instances once and list their latest tasks", (*_CONFIG, *_LOG, _JSON)
    ),
    "state show": Command("show the counts in the state file", (*_STATE, *_LOG, _JSON)),
    "state verify": Command(
        "check that an exporter would go on from the state file", (*_STATE, *_LOG)
    ),
    "ready": Command(
        "ask a running exporter whether it answers, for health checks",
        (_addresses(_PORT, "address that it listens on"), _WEB_CONFIG, _HEALTHY, *_LOG),
    ),
    "demo": Command(
        "run against a simulated cloud, without an account",
        (*_LOG, *_web("127.0.0.1:39327")),
        _DEMO_KEY,
    ),
}

FLAGS: Final[Mapping[str, Flag]] = {
    flag.name: flag for command in COMMANDS.values() for flag in command.flags
}
"""The flags of all commands, by name."""
