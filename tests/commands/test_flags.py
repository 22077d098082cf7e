"""The flags: each means the same before and after its command, and wrong ones are named."""

from __future__ import annotations

import pytest

from dcs_task_exporter.arguments import UsageError, help_of, parse_flags
from dcs_task_exporter.flags import COMMANDS, FLAGS

VALUES = ("7", "/some/path", "127.0.0.1:7", "debug", "json", "30s")
"""Values of which each flag takes at least one, other than its default."""

TAKEN = [(name, flag.name) for name, command in COMMANDS.items() for flag in command.flags]
REFUSED = [(name, flag) for name in COMMANDS for flag in FLAGS if (name, flag) not in TAKEN]


def words_of(command: str, flag: str) -> list[str]:
    """Return how a flag is given with a value that is not its default."""
    if FLAGS[flag].settings.get("action") == "store_true":
        return [flag]
    for value in VALUES:
        try:
            words = command.split()
            changed = parse_flags([*words, flag, value]) != parse_flags(words)
        except UsageError:
            continue
        if changed:
            return [flag, value]
    message = f"no value for {flag}: add one to VALUES"
    raise AssertionError(message)


def refused(*words: str) -> str:
    """Return what is said of a command line that cannot be understood."""
    with pytest.raises(UsageError) as raised:
        parse_flags(words)
    return str(raised.value)


@pytest.mark.parametrize(("command", "flag"), TAKEN)
def test_a_flag_means_the_same_before_and_after(command: str, flag: str) -> None:
    """A flag means the same before its command and after it, and changes its own value alone."""
    words = words_of(command, flag)
    named = command.split()
    before, after = parse_flags([*words, *named]), parse_flags([*named, *words])
    without = vars(parse_flags(named))

    assert before == after
    assert [name for name in without if without[name] != getattr(after, name)] == [FLAGS[flag].dest]


@pytest.mark.parametrize(("command", "flag"), REFUSED)
def test_a_flag_of_another_command(command: str, flag: str) -> None:
    """A flag that its command does not take is refused in both places, with both names."""
    words = words_of(next(taker for taker, taken in TAKEN if taken == flag), flag)
    told = f"{command} does not take {flag}: it is a flag of "

    assert refused(*words, *command.split()).startswith(told)
    assert refused(*command.split(), *words).startswith(told)


def test_a_flag_without_a_command() -> None:
    """Without a command, a flag of another one is refused with the name of the one that runs."""
    told = "serve, the command where none is named, does not take --online: it is a flag of check"

    assert refused("--online") == told


def test_a_repeated_flag_around_the_command() -> None:
    """Addresses before the command and after it are all listened on."""
    words = ["--web.listen-address=:1", "serve", "--web.listen-address=:2"]

    assert parse_flags(words).web_listen_address == [("", 1), ("", 2)]


def test_the_later_of_two_values() -> None:
    """Of two values of a flag the later one counts, whatever stands between them."""
    assert parse_flags(["--log.level=debug", "serve", "--log.level=warn"]).log_level == "warn"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chek"], "there is no command 'chek'; did you mean check?"),
        (
            ["frobnicate"],
            f"there is no command 'frobnicate'; the commands are {', '.join(COMMANDS)}",
        ),
        (["state"], "there is no command 'state'; the commands are state show, state verify"),
        (["state", "shwo"], "there is no command 'state shwo'; did you mean state show?"),
        (["state", "show", "x.db"], "state show takes flags only, not 'x.db'"),
        (["--confg.file=x", "check"], "there is no flag --confg.file; did you mean --config.file?"),
        (["check", "--on"], "there is no flag --on"),
        (["serve", "config.yml"], "serve takes flags only, not 'config.yml'"),
        (["--shard=x"], "--shard: expected a whole number, not 'x'"),
        (["--config.file="], "--config.file: expected the name of a file, not an empty text"),
    ],
)
def test_words_that_mean_nothing(words: list[str], told: str) -> None:
    """What cannot be understood is named, with what is meant where that can be guessed."""
    assert refused(*words).startswith(told)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_flags_of_its_command(command: str) -> None:
    """The help of a command shows the flags that it takes, and no other."""
    shown = help_of(command)

    assert [flag for flag in FLAGS if f"  {flag} " in shown or f"  {flag}\n" in shown] == [
        flag for flag in FLAGS if (command, flag) in TAKEN
    ]


def test_help_and_version_need_no_order() -> None:
    """Help can be asked for before the command and after it."""
    before, after = parse_flags(["--help", "check"]), parse_flags(["check", "-h"])

    assert (before.help, before.command) == (after.help, after.command) == (True, "check")
