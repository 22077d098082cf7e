"""Changing a text in one place, so that most of it keeps its meaning: a word, a line, a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

LENGTHS: Final = (1, 1, 2, 2, 2, 9, 9, 9, 60, 60, 129, 129, 1025, 4301)
"""How often a word is repeated."""

_DIGITS: Final = re.compile(r"\d+")
_TOKEN: Final = re.compile(r"[\w.@-]+")
_VALUE: Final = re.compile(r"(?<=[:=,]) ?[^\n\r,:;=&]*")
_BRACKETS: Final = (("[", "]"), ("{", "}"), ('"', '"'), ("'", "'"), ("(", ")"), ("- ", ""))

_Change = Callable[[str, Random, Sequence[str]], str]


def text_mutated(data: bytes, random: Random, words: Sequence[str]) -> bytes:
    """Return a text that differs from `data` in one to three places."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        text = random.choice(_CHANGES)(text, random, words)
    return text.encode("utf-8", "surrogateescape" if _is_escaped(text) else "surrogatepass")


def bytes_mutated(data: bytes, random: Random) -> bytes:
    """Return bytes of which a few are others, or a part is missing, moved or there twice."""
    changed = bytearray(data or b"\0")
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(changed))
        size = random.choice((1, 1, 1, 2, 4, 8, 64, 512))
        match random.randrange(6):
            case 0 | 1:
                changed[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                changed[at : at + 4] = random.choice((0, 1, 2**31 - 1, 2**32 - 1)).to_bytes(4)
            case 3:
                changed[at : at + size] = bytes(size)
            case 4:
                other = random.randrange(len(changed))
                changed[at : at + size] = changed[other : other + size]
            case _:
                del changed[at : at + size]
                changed = changed or bytearray(b"\0")
    return bytes(changed)


def _is_escaped(text: str) -> bool:
    return any("\udc80" <= sign <= "\udcff" for sign in text)


def _insert(text: str, random: Random, words: Sequence[str]) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice(words) + text[at:]


def _repeat(text: str, random: Random, words: Sequence[str]) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice(words) * random.choice(LENGTHS) + text[at:]


def _replace(text: str, random: Random, words: Sequence[str]) -> str:
    """Say another word in the place of one."""
    return _in_place(text, random, _TOKEN, lambda _: random.choice(words))


def _revalue(text: str, random: Random, words: Sequence[str]) -> str:
    """Say something else after a colon, a comma or an equals sign."""
    return _in_place(text, random, _VALUE, lambda _: " " + random.choice(words))


def _renumber(text: str, random: Random, _: Sequence[str]) -> str:
    return _in_place(
        text, random, _DIGITS, lambda _: random.choice("0129") * random.choice(LENGTHS)
    )


def _wrap(text: str, random: Random, _: Sequence[str]) -> str:
    begin, end = random.choice(_BRACKETS)
    return _in_place(text, random, _TOKEN, lambda word: f"{begin}{word}{end}")


def _in_place(
    text: str, random: Random, pattern: re.Pattern[str], change: Callable[[str], str]
) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    one = random.choice(found)
    return text[: one.start()] + change(one.group()) + text[one.end() :]


def _cut(text: str, random: Random, _: Sequence[str]) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + text[at + random.choice((1, 1, 2, 8, len(text))) :]


def _of_lines(text: str, random: Random, words: Sequence[str]) -> str:
    """Repeat, drop, move, indent or exchange a line."""
    lines = text.split("\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(6):
        case 0:
            lines.insert(other, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = " " * random.choice((1, 2, 4)) + lines[at]
        case 4:
            lines[at] = lines[at].removeprefix("  ")
        case _:
            lines.insert(at, random.choice(words) + random.choice(words))
    return "\n".join(lines)


_CHANGES: Final[tuple[_Change, ...]] = (
    _insert,
    _insert,
    _repeat,
    _replace,
    _replace,
    _revalue,
    _revalue,
    _renumber,
    _wrap,
    _cut,
    _of_lines,
    _of_lines,
)
