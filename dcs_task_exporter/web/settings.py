"""The paths that are served, and the settings of the web app."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dcs_task_exporter import __version__
from dcs_task_exporter.config.model import Config
from dcs_task_exporter.tasks.statuses import StatusTable

HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"
PROBE_PATH: Final = "/probe"
DISCOVERY_PATH: Final = "/sd"


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The settings of the web app; times are in seconds.

    Raises `ValueError` for a telemetry path that cannot be served.
    """

    telemetry_path: str = "/metrics"
    default_scrape_timeout: float = 10.0
    scrape_timeout_offset: float = 0.5
    statuses: StatusTable = field(default_factory=StatusTable)
    projects: tuple[str, ...] = ()
    version: str = __version__

    def __post_init__(self) -> None:
        """Refuse a telemetry path that is no path, or that hides another answer."""
        path = self.telemetry_path
        if not path.startswith("/") or any(character in path for character in "?#{}% \t\r\n"):
            message = f"telemetry path {path!r} must be a plain path that starts with /"
            raise ValueError(message)
        if path in (HEALTHY_PATH, READY_PATH, PROBE_PATH, DISCOVERY_PATH):
            message = f"telemetry path {path!r} is taken by another answer"
            raise ValueError(message)

    @classmethod
    def of(cls, config: Config, telemetry_path: str) -> WebSettings:
        """Return the settings that a configuration makes."""
        return cls(
            telemetry_path=telemetry_path,
            default_scrape_timeout=config.collector.default_scrape_timeout,
            scrape_timeout_offset=config.collector.scrape_timeout_offset,
            statuses=config.status_words.table(),
            projects=tuple(project.name for project in config.projects),
        )
