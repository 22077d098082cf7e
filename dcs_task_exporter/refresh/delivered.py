"""The counter values that scrapers have of one instance, and since when they have each series."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dcs_task_exporter.tasks.naming import Series


class DeliveredValues:
    """Remembers what was delivered: the values in answers that were written whole.

    `values` has the highest value delivered of each series that a scraper has now. One instance
    owns it and locks it. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.values: Mapping[Series, int] = {}
        self._since: Mapping[Series, float] = {}
        self._number = -1

    def add(self, shown: Mapping[Series, int], number: int | None, now: float | None) -> None:
        """Note an answer that showed these values.

        Answers may arrive in another order than their `number`, which grows from one to the next:
        an earlier answer says which values were delivered, but not which series a scraper has now.
        `now` is None where the instance is not watched any more: its series have ended.
        """
        before = self.values
        if number is not None:
            if number < self._number:
                self.values = {key: max(shown.get(key, 0), value) for key, value in before.items()}
                return
            self._number = number
        if shown is before and self._since:  # the usual case
            return
        if shown:  # else the values are still the last that the scraper had
            highest = {key: max(value, before.get(key, 0)) for key, value in shown.items()}
            self.values = shown if highest == shown else highest
        if now is not None:
            self._since = {key: self._since.get(key, now) for key in shown}

    def series(self, latest: float) -> Collection[Series]:
        """Return the series that scrapers have had since `latest`, or longer."""
        return {key for key, since in self._since.items() if since <= latest}

    def end(self) -> None:
        """Forget the values: the series have ended."""
        self.values, self._since = {}, {}
