"""The credentials of a request, as values."""

from __future__ import annotations

import pytest

from dcs_task_exporter.cloud.credential import AccessKey, Carried, Credential, Token


@pytest.mark.parametrize(
    ("credential", "secrets"),
    [
        (
            AccessKey("access-key", "secret-key", "the-token", None, ("password",)),
            ("access-key", "secret-key", "the-token", "password"),
        ),
        (Token("the-token", None, ("password",)), ("the-token", "password")),
        (Carried(("password", "the-token")), ("password", "the-token")),
    ],
)
def test_all_secrets_are_redacted(credential: Credential, secrets: tuple[str, ...]) -> None:
    """No part of a credential stays in a text."""
    text = credential.redactor.text(f"it is {' or '.join(secrets)}.")

    assert sorted(credential.secrets) == sorted(secrets)
    assert [secret for secret in secrets if secret in text] == []
    assert text.startswith("it is ")
