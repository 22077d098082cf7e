"""Reading secrets from files, and refusing those that no header can carry."""

from __future__ import annotations

import re
from pathlib import Path

from dcs_task_exporter.errors import CredentialsError
from dcs_task_exporter.texts import shown


def read_secret(path: Path) -> str:
    """Return the content of a secret file, without surrounding white space.

    Raises `CredentialsError` when it cannot be read or is empty.
    """
    named = f"the secret file {_shown_path(path)}"
    try:
        content = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        message = f"cannot read {named}: {error.strerror}"
        raise CredentialsError(message) from None  # the cause would show the path
    except UnicodeDecodeError:
        message = f"{named} is not UTF-8 text"
        raise CredentialsError(message) from None  # the cause would show the secret's bytes
    except ValueError:
        message = f"cannot read {named}: no file can have such a name"
        raise CredentialsError(message) from None
    if not content:
        message = f"{named} is empty"
        raise CredentialsError(message)
    return sendable(content, named)


def _shown_path(path: Path) -> str:
    """Return a path whose folder is there; another may be the secret itself, in a wrong key."""
    folder = path.parent
    try:
        if folder not in (Path(), Path("/")) and folder.is_dir():
            return shown(str(path))
    except (OSError, ValueError):
        pass
    return "(not named here, because no folder of its path is there: is it the secret itself?)"


def sendable(secret: str, where: str) -> str:
    """Return a secret that a header can carry: the HTTP library's errors would show another.

    `where` names it in the `CredentialsError` that is raised otherwise.
    """
    if not re.fullmatch(r"[!-~]*", secret):
        message = f"{where} must hold printable ASCII without blanks: was it cut or wrapped?"
        raise CredentialsError(message)
    return secret
