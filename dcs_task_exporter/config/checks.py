"""Mistakes that no single key of a configuration shows.

They are found in the plain data, so that they are reported even if another key is wrong. The data
may be of any shape: a value that does not fit is reported by the schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pydantic import TypeAdapter, ValidationError

from dcs_task_exporter.config.durations import parse_duration
from dcs_task_exporter.errors import Problem
from dcs_task_exporter.tasks.statuses import STATUS_WORDS

_SECRETS: Final[Mapping[str, tuple[str, ...]]] = {
    "access_key": ("access_key", "secret_key"),
    "token": ("token",),
    "environment": (),
    "password": ("password",),
    "metadata": (),
    "profile": (),
    "pod_identity": (),
    "auto": (),
    "assume_agency": (),
}
"""The secrets that each type of credentials needs."""

_NESTED: Final = tuple(kind for kind in _SECRETS if kind != "assume_agency")
"""The types of credentials by which an agency can be assumed."""

_PAIRS: Final = (
    ("max_staleness", "min_refresh_interval"),
    ("max_staleness", "refresh_interval"),
    ("default_scrape_timeout", "scrape_timeout_offset"),
)
"""Keys of `collector`: the first of each pair must be longer than the second."""

_BOOLEAN: Final = TypeAdapter(bool)


def cross_check(data: object, defaults: Mapping[str, float]) -> list[Problem]:
    """Return the mistakes that only several keys together show.

    `defaults` has the seconds of the durations, by key.
    """
    projects = list(_sections(data, "projects"))
    names = [(f"projects[{at}].name", project.get("name")) for at, project in projects]
    ids = [
        (f"projects[{at}].instances[{item}].id", instance.get("id"))
        for at, project in projects
        for item, instance in _sections(project, "instances")
    ]
    return [
        *_repeated(names),
        *(problem for at, project in projects for problem in _project(f"projects[{at}]", project)),
        *_repeated(ids),
        *_durations(_section(data, "collector"), defaults),
        *_tag_labels(_section(data, "collector")),
        *_full_passes(data, defaults),
        *_status_words(_section(data, "status_words")),
    ]


def _full_passes(data: object, defaults: Mapping[str, float]) -> Iterator[Problem]:
    """Report a full pass so seldom that data are too old before the next one."""
    longest = _seconds(_section(data, "collector"), "max_staleness", defaults)
    for at, project in _sections(data, "projects"):
        center = _section(project, "task_center")
        interval = _seconds(center, "full_pass_interval", defaults)
        if _enabled(center) and interval >= longest:
            path = f"projects[{at}].task_center.full_pass_interval"
            yield Problem(path, "must be shorter than collector.max_staleness")


def _tag_labels(collector: Mapping[object, object]) -> Iterator[Problem]:
    tags = collector.get("tag_labels")
    labels = [
        (f"collector.tag_labels[{at}]", re.sub("[^a-zA-Z0-9_]", "_", tag))
        for at, tag in enumerate(tags if isinstance(tags, list) else ())
        if isinstance(tag, str)
    ]
    return _repeated(labels, "makes the same label as {first}")


def _project(path: str, project: Mapping[object, object]) -> Iterator[Problem]:
    def given(key: str) -> bool:
        return project.get(key) not in (None, "")

    by_name = given("iam_endpoint") and given("project_name")
    if not given("region") and not given("endpoint"):
        yield Problem(f"{path}.region", "is missing: needs a region, or an endpoint")
    elif not given("project_id") and not given("region") and not by_name:
        message = (
            "is missing: needs a project_id, or a region to look it up by, "
            "or an iam_endpoint with a project_name"
        )
        yield Problem(f"{path}.project_id", message)
    searched = _enabled(_section(project, "discovery"))
    if searched is False and project.get("instances") in (None, []):
        message = "is missing: list at least one, or set discovery.enabled"
        yield Problem(f"{path}.instances", message)
    credentials = project.get("credentials")
    if isinstance(credentials, Mapping):
        yield from _credentials(f"{path}.credentials", credentials)


def _enabled(section: Mapping[object, object]) -> bool | None:
    """Whether a section is switched on, as the schema reads it; None if that is no boolean."""
    try:
        return _BOOLEAN.validate_python(section.get("enabled", False))
    except ValidationError:
        return None


def _credentials(
    path: str, section: Mapping[object, object], kinds: Iterable[str] = tuple(_SECRETS)
) -> Iterator[Problem]:
    kind = section.get("type")
    if not (isinstance(kind, str) and kind in kinds):
        yield Problem(f"{path}.type", f"must be one of {', '.join(kinds)}")
        return
    for name in (*_SECRETS[kind], "security_token"):
        given = [key for key in (name, f"{name}_file") if key in section]
        if len(given) > 1:
            yield Problem(f"{path}.{name}", f"is given twice: remove it, or {name}_file")
        elif not given and name in _SECRETS[kind]:
            yield Problem(f"{path}.{name}", f"is missing: give it, or {name}_file")
    if kind == "assume_agency":
        yield from _assumed(path, section)


def _assumed(path: str, section: Mapping[object, object]) -> Iterator[Problem]:
    accounts = [key for key in ("domain_name", "domain_id") if section.get(key)]
    if len(accounts) != 1:
        message = (
            "give it or domain_id, not both" if accounts else "is missing: give it, or domain_id"
        )
        yield Problem(f"{path}.domain_name", message)
    source = section.get("source")
    if isinstance(source, Mapping):
        yield from _credentials(f"{path}.source", source, _NESTED)


def _durations(
    section: Mapping[object, object], defaults: Mapping[str, float]
) -> Iterator[Problem]:
    for longer, shorter in _PAIRS:
        most, least = (_seconds(section, key, defaults) for key in (longer, shorter))
        if least >= most > 0 and shorter in section:
            yield Problem(f"collector.{shorter}", f"must be shorter than {longer}")
        elif least >= most > 0:
            yield Problem(f"collector.{longer}", f"must be longer than {shorter}")


def _seconds(section: Mapping[object, object], key: str, defaults: Mapping[str, float]) -> float:
    """Return a duration, or NaN, which compares with nothing, if the schema reports it."""
    try:
        return parse_duration(section[key]) if key in section else defaults[key]
    except ValueError:
        return math.nan


def _status_words(section: Mapping[object, object]) -> Iterator[Problem]:
    meanings: dict[str, str] = {}
    for meaning, words in section.items():
        for at, word in enumerate(words if isinstance(words, list) else ()):
            if not isinstance(word, str):
                continue
            known = STATUS_WORDS.get(word.upper())
            before = known.value if known else meanings.setdefault(word.upper(), str(meaning))
            if before != meaning:
                where = "known to the exporter" if known else "in this file already"
                message = f"is {where} as {before}: remove it here, a word has one meaning"
                yield Problem(f"status_words.{meaning}[{at}]", message)


def _repeated(
    values: Iterable[tuple[str, object]], message: str = "is the same as {first}: it must be unique"
) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for path, value in values:
        if isinstance(value, str) and value:
            if value in first:
                yield Problem(path, message.format(first=first[value]))
            first.setdefault(value, path)


def _section(data: object, key: str) -> Mapping[object, object]:
    value = data.get(key) if isinstance(data, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _sections(data: object, key: str) -> Iterator[tuple[int, Mapping[object, object]]]:
    values = data.get(key) if isinstance(data, Mapping) else None
    for at, value in enumerate(values if isinstance(values, list) else ()):
        if isinstance(value, Mapping):
            yield at, value
