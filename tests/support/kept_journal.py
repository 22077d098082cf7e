"""A journal in memory, for the tests of the refresher."""

from __future__ import annotations

from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.instance_state import InstanceState


class KeptJournal(Journal):
    """A journal of one instance, in memory."""

    def __init__(self, state: InstanceState) -> None:
        self.state = state

    def load(self, instance_id: str) -> InstanceState:
        """Return the state that was saved last."""
        del instance_id
        return self.state

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Keep a state."""
        del instance_id
        self.state = state
