"""Read secrets from files, and refuse those that no header can carry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dcs_task_exporter.errors import CredentialsError

_SENDABLE: Final = re.compile("[!-~]*")
"""Text that a header can carry as it is."""


def read_secret(path: Path) -> str:
    """Return the content of a secret file, without surrounding white space.

    Raises `CredentialsError` when it cannot be read or is empty.
    """
    content = _content(path).strip()
    # Naming the file takes as long as reading it, and this is done for each request.
    return content if _SENDABLE.fullmatch(content) else sendable(content, _name(path))


def read_password(path: Path) -> str:
    """Return the content of a file with a password, without the end of its last line.

    A password is sent in a body, which carries any character. Raises `CredentialsError` when the
    file cannot be read or is empty.
    """
    return _content(path).rstrip("\r\n")


def _content(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot read {_name(path)}: {error.strerror}"
    except UnicodeDecodeError:
        message = f"{_name(path)} is not UTF-8 text"
    except ValueError:
        message = f"{_name(path)} has a name that no file can have"
    else:
        if content.strip():
            return content
        message = f"{_name(path)} is empty"
    # Raised outside the handlers, else its cause would show the path, or the secret's bytes.
    raise CredentialsError(message)


def _name(path: Path) -> str:
    """Name a secret file by its path, unless that could be the secret, written in a wrong key."""
    folder = path.parent
    try:
        known = path.is_file() or (folder not in (Path(), Path(folder.anchor)) and folder.is_dir())
    except (OSError, ValueError):
        known = False
    return f"the secret file {path if known else '(name hidden, it could be the secret)'}"


def sendable(secret: str, where: str) -> str:
    """Return a secret that a header can carry; raise `CredentialsError`, which names it `where`.

    The HTTP library's error about a bad header would show the secret.
    """
    if not _SENDABLE.fullmatch(secret):
        message = f"{where} must hold printable ASCII without blanks: was it cut or wrapped?"
        raise CredentialsError(message)
    return secret
