"""The shape of an instance's row in the state file: nothing else may come out of one.

A value of a wrong type would not be noticed when it is read, but at each later refresh or scrape.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dcs_task_exporter.tasks.details import TaskDetails

MOST: Final = 2**63 - 1
"""The highest count that SQLite could hold."""

_Count = Annotated[int, Field(ge=0, le=MOST)]
_Counts = list[tuple[str, str, _Count]]
_Followed = tuple[str, str, str, float | None, float | None]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Naming(_Shape):
    name: str
    elsewhere: _Counts
    former: dict[str, _Counts]


class _Row(_Shape):
    """What `encode` writes; `naming` is missing where an earlier version wrote it."""

    baseline_at: float | None
    baseline_partial: bool | _Count
    forgotten_until: float | None
    listed_since: float | None
    names: list[str]
    statuses: list[str]
    counts: _Counts
    shown: _Counts
    unlisted: list[str]
    active: list[_Followed]
    missing: list[_Followed]
    last_success: dict[str, float]
    last_failure: dict[str, float]
    failed: dict[str, tuple[str, str, str, float | None, float | None, str, TaskDetails]]
    naming: _Naming | None = None


class _Beside(_Shape):
    """What is saved beside the row; a task without any time is at infinity."""

    refreshed_at: float | None
    counted: dict[str, Annotated[float, Field(allow_inf_nan=True)]]


def check_row(text: object, *, refreshed_at: object, counted: object) -> None:
    """Raise `ValueError`, without any value of it, for a row that `encode` does not write."""
    try:
        if not isinstance(text, str):
            message = "a row is no text"
            raise ValueError(message)  # noqa: TRY004 - as for all other rows without sense
        _Row.model_validate_json(text)
        _Beside.model_validate({"refreshed_at": refreshed_at, "counted": counted})
    except ValidationError as error:
        first = error.errors()[0]
        message = ": ".join([*map(str, first["loc"][:1]), first["msg"]])
    else:
        return
    raise ValueError(message)
