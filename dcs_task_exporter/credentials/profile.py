"""The key in the official SDK's file of credentials, `~/.huaweicloud/credentials`."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.config.secrets import sendable
from dcs_task_exporter.errors import CredentialsError

FILE_VARIABLE: Final = "HUAWEICLOUD_SDK_CREDENTIALS_FILE"

MAX_SIZE: Final = 100_000
"""Characters of the file that are read at most."""

_BLANKS: Final = re.compile(r"[^\S\n]{100}")
"""So many blanks in a row that the library would need their number squared in time."""


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """The key of one section of the file, as it is now.

    Without a `path`, the file is the one that `environ` names, or the one in the home folder.
    """

    path: Path | None
    section: str
    environ: Mapping[str, str] = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)

    def __call__(self) -> AccessKey:
        """Return the key of the section. Raises `CredentialsError`."""
        path = self._path()
        found = _section(path, self.section)
        key = {name: found.get(name, "").strip() for name in ("ak", "sk", "security_token")}
        if not key["ak"] or not key["sk"]:
            odd = "idp_id" in found and "id_token_file" in found
            hint = "; idp_id and id_token_file are not supported here" if odd else ""
            message = f"the section [{self.section}] of {path} lacks ak or sk{hint}"
            raise CredentialsError(message)
        where = f"of the section [{self.section}] of {path}"
        names = {name: sendable(value, f"{name} {where}") for name, value in key.items()}
        return AccessKey(names["ak"], names["sk"], names["security_token"], others=self.others)

    def _path(self) -> Path:
        if self.path is not None:
            return self.path
        named = self.environ.get(FILE_VARIABLE, "").strip()
        home = self.environ.get("HOME", "").strip()
        if not named and not home:
            message = f"no file of credentials: set `path`, {FILE_VARIABLE} or HOME"
            raise CredentialsError(message)
        return Path(named) if named else Path(home, ".huaweicloud", "credentials")


def _section(path: Path, section: str) -> Mapping[str, str]:
    """Return the keys and values of a section. Raises `CredentialsError`."""
    # Without the library's references between values, which can grow ten levels deep.
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_SIZE)
        if _BLANKS.search(text):
            message = f"{path} has 100 blanks in a row: remove them"
        else:
            parser.read_string(text)
            found = dict(parser.items(section)) if parser.has_section(section) else None
            if found is None:
                message = f"{path} has no section [{section}]"
            elif any("%" in value.replace("%%", "") for value in found.values()):
                message = f"{path} has a % in the section [{section}]: write %% for it"
            else:
                return {name: value.replace("%%", "%") for name, value in found.items()}
    except OSError as error:
        message = f"cannot read the file of credentials {path}: {error.strerror}"
    except (ValueError, configparser.Error):
        message = f"{path} is no file of sections, keys and values in UTF-8"
    # Raised outside the handlers, else its cause would quote the file's lines.
    raise CredentialsError(message)
