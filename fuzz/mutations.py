"""Changing an input so that it stays readable: one value of its JSON, one line of its head.

libFuzzer's own mutations break JSON nearly always; these reach the code behind the parser. Every
choice comes from a generator that the fuzzer seeds, so a run can be repeated.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

TOKENS: Final = (
    "error_code",
    "error_msg",
    "errorCode",
    "errorMsg",
    "request_id",
    "task_count",
    "tasks",
    "instances",
    "instance_id",
    "projects",
    "progress",
    "remain_time",
    "details",
    "created_at",
    "updated_at",
    "old_capacity",
    "new_capacity",
    "new_cahce_mode",
    "rename_commands",
    "enable_show",
    "tags",
    "EXTEND",
    "EXECUTING",
    "SUCCESS",
    "limit:200",
    ",time:5 minute",
    "second",
    "hour",
    "day",
    "Retry-After",
    "Content-Length",
    "Content-Encoding",
    "Transfer-Encoding",
    "chunked",
    "gzip",
    "X-Request-Id",
    "Date",
    "Wed, 17 Jun 2020 07:38:42 GMT",
    "2020-06-17T07:38:42.503Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999-23:59",
    "1592381886597",
    "1e400",
    "-1e308",
    "NaN",
    "\u00b2",
    "\u0661\u0662\u0663",
    "\ud800",
    "\udfff",
    "\x00",
    "\x1b[31m",
    "\u2028",
    '"',
    "\\",
    "\n# EOF\n",
    'x{a="b"} 1 # {c="d"} 1',
)
"""Words that mean something to the parsers, or to the pages that show their results."""

VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**30,
    10**309,
    1e308,
    -1e308,
    1e300,
    5e-324,
    float("inf"),
    float("nan"),
    "",
    " ",
    "-0",
    "0x10",
    [],
    {},
    [[[[[]]]]],
    [None],
    {"": ""},
)
"""Values that a field seldom has."""

LENGTHS: Final = (1, 2, 9, 13, 40, 129, 310, 401, 4301)
"""How long a run of digits, or a repeated text, can become."""

STATUSES: Final = (200, 200, 201, 204, 101, 103, 301, 302, 400, 401, 403, 404, 429, 494, 500, 503)

_DIGITS: Final = re.compile(r"\d+")


def mutated(data: bytes, random: Random, *, wire: bool = False) -> bytes:
    """Return an input that differs from `data` in one place of one of its answers.

    With `wire`, it is the raw bytes of one HTTP answer.
    """
    if wire:
        return _wire_mutated(data, random)
    answers = data.split(b"\n---\n")
    at = random.randrange(len(answers))
    match random.randrange(12):
        case 0:
            answers.insert(at, answers[at])
        case 1 if len(answers) > 1:
            del answers[at]
        case 2 | 3:
            head, gap, body = answers[at].partition(b"\n\n")
            answers[at] = _head_mutated(head, random, b"\n") + (gap or b"\n\n") + body
        case _:
            head, gap, body = answers[at].partition(b"\n\n")
            answers[at] = head + gap + json_mutated(body, random)
    return b"\n---\n".join(answers)


def json_mutated(body: bytes, random: Random) -> bytes:
    """Return a JSON text in which one value or key is another; other bytes with one changed."""
    try:
        root = [json.loads(body)]
        places = list(_places(root))
    except (ValueError, RecursionError):
        return _text_mutated(body.decode("latin-1"), random).encode("utf-8", "surrogatepass")
    container, key = random.choice(places)
    _change(container, key, random)
    return _encoded(root[0], random)


def _encoded(value: object, random: Random) -> bytes:
    escaped = random.random() < 0.7  # noqa: PLR2004 - a chance
    try:
        text = json.dumps(value, ensure_ascii=escaped)
    except (ValueError, RecursionError):  # a number that is too long to be written
        return b"0"
    return text.encode("utf-8", "surrogatepass")


def _places(value: object) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) inside a JSON value."""
    keys: Any = ()
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = range(len(value))
    for key in keys:
        yield value, key
        yield from _places(value[key])  # type: ignore[index] # one of the two


def _change(container: Any, key: Any, random: Random) -> None:
    choice = random.choice(_CHANGES)
    choice(container, key, random)


def _replace(container: Any, key: Any, random: Random) -> None:
    container[key] = random.choice(VALUES)


def _say(container: Any, key: Any, random: Random) -> None:
    container[key] = random.choice(TOKENS)


def _rewrite(container: Any, key: Any, random: Random) -> None:
    """Change a text or a number as text; keep a number one where that can be."""
    value = container[key]
    if isinstance(value, dict | list):
        _add(container, key, random)
        return
    text = _text_mutated(value if isinstance(value, str) else json.dumps(value), random)
    container[key] = text
    if isinstance(value, int | float) and random.random() < 0.5:  # noqa: PLR2004 - a chance
        try:
            container[key] = json.loads(text)
        except ValueError:
            container[key] = text


def _drop(container: Any, key: Any, random: Random) -> None:
    if isinstance(container, dict):
        del container[key]
    else:
        container.insert(random.randrange(len(container) + 1), container[key])


def _rename(container: Any, key: Any, random: Random) -> None:
    if isinstance(container, dict):
        container[random.choice(TOKENS)] = container.pop(key)
    else:
        container[key] = {random.choice(TOKENS): container[key]}


def _add(container: Any, key: Any, random: Random) -> None:
    """Add a value to the one here, or wrap it."""
    value, new = container[key], random.choice((*VALUES, *TOKENS))
    if isinstance(value, dict):
        value[random.choice(TOKENS)] = new
    elif isinstance(value, list):
        value.append(new)
    else:
        container[key] = [value, new]


_Change = Callable[[Any, Any, Random], None]
_CHANGES: Final[tuple[_Change, ...]] = (
    _replace,
    _say,
    _rewrite,
    _rewrite,
    _rewrite,
    _drop,
    _rename,
    _add,
)


def _text_mutated(text: str, random: Random) -> str:
    runs = list(_DIGITS.finditer(text))
    if runs and random.random() < 0.5:  # noqa: PLR2004 - a chance
        run = random.choice(runs)
        digits = random.choice("0129") * random.choice(LENGTHS)
        return text[: run.start()] + digits + text[run.end() :]
    at = random.randrange(len(text) + 1)
    match random.randrange(4):
        case 0:
            return text[:at] + text[at + random.choice((1, 2, 8)) :]
        case 1:
            return text[:at] + chr(random.choice((0, 9, 10, 34, 92, 127, 0xD800, 0x10FFFF)))
        case 2:
            return text[:at] + random.choice(TOKENS) * random.choice((1, 1, 1, *LENGTHS[:5]))
        case _:
            return text[:at] + random.choice(TOKENS) + text[at:]


def _head_mutated(head: bytes, random: Random, end: bytes) -> bytes:
    """Change the status, or a header, or add one."""
    lines = head.split(end)
    at = random.randrange(len(lines))
    if random.random() < 0.4:  # noqa: PLR2004 - a chance
        status = b"%d" % random.choice(STATUSES)
        lines[0] = re.sub(rb"(?<!\.)\b\d{3}\b|^$", status, lines[0], count=1)
    elif random.random() < 0.4:  # noqa: PLR2004 - a chance
        name, value = random.choice(TOKENS), random.choice(TOKENS)
        lines.append(f"{name}: {value}".encode("utf-8", "replace"))
    else:
        changed = _text_mutated(lines[at].decode("latin-1"), random)
        lines[at] = changed.encode("utf-8", "replace")
    return end.join(lines)


def _wire_mutated(data: bytes, random: Random) -> bytes:
    """Change the head or the body of an answer on the wire; sometimes say a right length."""
    head, _, body = data.partition(b"\r\n\r\n")
    match random.randrange(8):
        case 0 | 1 | 2 | 3:
            head = _head_mutated(head, random, b"\r\n")
        case 4:
            head, body = _length_said(head + b"\r\nContent-Encoding: gzip", gzip.compress(body))
        case 5:
            body = _chunked(body, random)
            head += b"\r\nTransfer-Encoding: chunked"
        case 6:
            body = _text_mutated(body.decode("latin-1"), random).encode("utf-8", "replace")
        case _:
            head, body = _length_said(head, json_mutated(body, random))
    return head + b"\r\n\r\n" + body


def _length_said(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    length = b"\r\nContent-Length: %d" % len(body)
    return re.sub(rb"(?i)\r\ncontent-length:[^\r]*", b"", head) + length, body


def _chunked(body: bytes, random: Random) -> bytes:
    cut = random.randrange(len(body) + 1)
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]))
    return parts + random.choice((b"", b"0\r\n\r\n", b"zzz\r\n"))
