"""The first of several sources; `real/test_sdk_oracle.py` compares the order with the SDK's."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from dcs_task_exporter.cloud.credential import Credential, Token
from dcs_task_exporter.credentials.chain import Chain
from dcs_task_exporter.errors import (
    ApiTimeoutError,
    AuthError,
    CredentialsError,
    StoppedError,
)


@dataclass
class Source:
    """A source that has a token or fails."""

    name: str
    error: Exception | None = None
    asked: list[float] = field(default_factory=list)
    closed: bool = False

    def current(self) -> Credential:
        return Token(self.name)

    def renewed(self, deadline: float) -> Credential:
        self.asked.append(deadline)
        if self.error is not None:
            raise self.error
        return Token(self.name)

    def refuse(self, credential: Credential, _: AuthError) -> bool:
        return credential == Token(self.name)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sources() -> dict[str, Source]:
    return {
        "a": Source("a", CredentialsError("a is not here")),
        "b": Source("b"),
        "c": Source("c"),
    }


@pytest.fixture
def chain(sources: dict[str, Source]) -> Chain:
    return Chain("prod", sources)


def test_first(chain: Chain, sources: dict[str, Source]) -> None:
    """The first source that has credentials is taken, with the deadline of the request."""
    assert chain.renewed(7.0) == Token("b")
    assert [source.asked for source in sources.values()] == [[7.0], [7.0], []]


def test_stays(chain: Chain, sources: dict[str, Source], caplog: pytest.LogCaptureFixture) -> None:
    """It stays with that source, also when this one fails or an earlier one has some; one line."""
    with caplog.at_level(logging.INFO):
        chain.renewed(0)
        sources["a"].error = None
        chain.renewed(0)
    sources["b"].error = ApiTimeoutError("late")

    with pytest.raises(ApiTimeoutError):
        chain.renewed(0)
    assert chain.current() == Token("b")
    assert [record.getMessage() for record in caplog.records] == [
        "the credentials of a project are found"
    ]


def test_none(chain: Chain, sources: dict[str, Source]) -> None:
    """If none has credentials, the error has the reason of each, and all are tried again later."""
    sources["b"].error, sources["c"].error = ApiTimeoutError("late"), CredentialsError("no")
    with pytest.raises(CredentialsError, match=r"a: a is not here\. b: late\. c: no"):
        chain.renewed(0)
    with pytest.raises(CredentialsError, match="no source of credentials was found yet"):
        chain.current()
    sources["c"].error = None

    assert chain.renewed(0) == Token("c")


def test_refuse(chain: Chain) -> None:
    """A refusal is one of the chosen source's credentials."""
    error = AuthError("must be updated")
    before = chain.refuse(Token("b"), error)
    chain.renewed(0)

    assert (before, chain.refuse(Token("b"), error)) == (False, True)


def test_stop(chain: Chain, sources: dict[str, Source]) -> None:
    """Closing closes all; a source that stops ends the search."""
    sources["a"].error = StoppedError("end")
    chain.close()

    assert all(source.closed for source in sources.values())
    with pytest.raises(StoppedError):
        chain.renewed(0)
    assert sources["b"].asked == []
