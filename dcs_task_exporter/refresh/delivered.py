"""The counter values that scrapers have of one instance, and since when they have each series."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dcs_task_exporter.tasks.instance_state import Series


class DeliveredValues:
    """Remembers what was delivered: the values in answers that were written whole.

    One instance owns it and locks it. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._values: Mapping[Series, int] = {}
        self._number = -1
        # All series were first delivered at `_since`, except those in `_later`, which came later:
        # most instances need no mapping.
        self._since: float | None = None
        self._later: Mapping[Series, float] = {}

    @property
    def values(self) -> Mapping[Series, int]:
        """The highest value delivered of each series that a scraper has now."""
        return self._values

    def add(self, shown: Mapping[Series, int], number: int | None, now: float | None) -> None:
        """Note an answer that showed these values.

        Answers may arrive in another order than their `number`, which grows from one to the next:
        an earlier answer says which values were delivered, but not which series a scraper has now.
        `now` is None where the instance is not watched any more: its series have ended.
        """
        before = self._values
        if number is not None:
            if number < self._number:
                self._values = {key: max(shown.get(key, 0), value) for key, value in before.items()}
                return
            self._number = number
        if not shown:
            # The scraper's series have ended; the values are still the last that it had.
            if now is not None:
                self._since, self._later = None, {}
            return
        if shown is before and self._since is not None:  # the usual case
            return
        if all(before.get(key, 0) <= value for key, value in shown.items()):
            self._values = shown
        else:
            self._values = {key: max(value, before.get(key, 0)) for key, value in shown.items()}
        if now is not None:
            self._note_new_series(before, now)

    def _note_new_series(self, before: Mapping[Series, int], now: float) -> None:
        if self._since is None:
            self._since, self._later = now, {}
        elif before.keys() != self._values.keys():
            later = self._values.keys() - (before.keys() - self._later.keys())
            self._later = {key: self._later.get(key, now) for key in later}

    def series(self, latest: float) -> Collection[Series]:
        """Return the series that scrapers have had since `latest`, or longer."""
        since = self._since
        if since is None:
            return ()
        return {key for key in self._values if self._later.get(key, since) <= latest}

    def end(self) -> None:
        """Forget the values: the series have ended."""
        self._values, self._since, self._later = {}, None, {}
