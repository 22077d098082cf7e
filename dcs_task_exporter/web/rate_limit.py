"""The rate limit of the web configuration file, in front of everything else."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dcs_task_exporter.web.web_config import RateLimitConfig, WebConfig


class TokenBucket:
    """Lets `burst` requests through at once, and one more each `interval` seconds, from `now` on.

    An interval of 0 or less lets all through.
    """

    def __init__(self, limit: RateLimitConfig, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._now = now

    def admits(self, now: float) -> bool:
        """Whether one more request may pass now."""
        if self.limit.interval <= 0:
            return True
        earned = (now - self._now) / self.limit.interval
        self._tokens = min(float(self.limit.burst), self._tokens + earned)
        self._now = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class RateLimit:
    """An ASGI application that answers 429 where another one would be asked too often.

    All clients and paths share one limit, as in the exporter-toolkit. `config` is read for every
    request; `monotonic` returns seconds.
    """

    def __init__(
        self, app: ASGIApp, config: Callable[[], WebConfig], monotonic: Callable[[], float]
    ) -> None:
        self._app = app
        self._config = config
        self._monotonic = monotonic
        self._bucket = TokenBucket(RateLimitConfig(), monotonic())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        limit, now = self._config().rate_limit, self._monotonic()
        if limit != self._bucket.limit:
            self._bucket = TokenBucket(limit, now)
        if self._bucket.admits(now):
            await self._app(scope, receive, send)
        else:
            text = "Too many requests: rate_limit of the web configuration file refuses this one\n"
            answer = PlainTextResponse(text, 429, {"Cache-Control": "no-store"})
            await answer(scope, receive, send)
