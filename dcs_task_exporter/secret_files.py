"""Reading secrets from files, and refusing those that no header can carry."""

from __future__ import annotations

import re
from pathlib import Path

from dcs_task_exporter.errors import CredentialsError


def read_secret(path: Path) -> str:
    """Return the content of a secret file, without surrounding white space.

    Raises `CredentialsError` when it cannot be read or is empty.
    """
    try:
        content = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"cannot read the secret file {path}: {error.strerror}"
        raise CredentialsError(message) from error
    except UnicodeDecodeError:
        message = f"the secret file {path} is not UTF-8 text"
        raise CredentialsError(message) from None  # the cause would show the secret's bytes
    if not content:
        message = f"the secret file {path} is empty"
        raise CredentialsError(message)
    return sendable(content, f"the secret file {path}")


def sendable(secret: str, where: str) -> str:
    """Return a secret that a header can carry: the HTTP library's errors would show another.

    `where` names it in the `CredentialsError` that is raised otherwise.
    """
    if not re.fullmatch(r"[!-~]*", secret):
        message = f"{where} must hold printable ASCII without blanks: was it cut or wrapped?"
        raise CredentialsError(message)
    return secret
