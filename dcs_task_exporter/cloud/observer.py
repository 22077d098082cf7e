"""What the requests to the cloud tell the exporter's own metrics."""

from __future__ import annotations

from typing import Protocol


class ApiObserver(Protocol):
    """Counts requests for the exporter's own metrics."""

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Count one HTTP request; `code` is its status, or ``error`` where there was none."""

    def error(self, project: str, operation: str, reason: str) -> None:
        """Count one request that failed."""

    def retry(self, project: str) -> None:
        """Count one retry."""

    def throttle_wait(self, project: str, seconds: float) -> None:
        """Add the time that a request waited for the rate limit."""

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        """Note when the credentials in use expire (Unix seconds), or that they do not."""
