"""The official SDK's file of credentials; `real/test_sdk_oracle.py` compares with the SDK."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.credentials.profile import MAX_SIZE, ProfileKey
from dcs_task_exporter.errors import CredentialsError
from tests.support.clouds import ACCESS_KEY, SECRET_KEY, world
from tests.support.credentials import Made, ask, exporter_with

TEXT = "[basic]\nak = AK\nsk = hunter22\n[other]\nak = AK2\nsk = SK2\nsecurity_token = ST\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "credentials"
    file.write_text(TEXT)
    return file


def test_sections(path: Path) -> None:
    """The key is that of the section which is named."""
    assert ProfileKey(path, "basic", {})() == AccessKey("AK", "hunter22")
    assert ProfileKey(path, "other", {})() == AccessKey("AK2", "SK2", "ST")


def test_places(tmp_path: Path, path: Path) -> None:
    """Without a path the file is that of the variable, or the one in the home folder."""
    home = tmp_path / "home"
    (home / ".huaweicloud").mkdir(parents=True)
    (home / ".huaweicloud" / "credentials").write_text("[basic]\nak = HOME\nsk = SK\n")
    environ = {"HOME": str(home)}

    assert ProfileKey(None, "basic", environ)().access_key == "HOME"
    environ["HUAWEICLOUD_SDK_CREDENTIALS_FILE"] = str(path)
    assert ProfileKey(None, "basic", environ)().access_key == "AK"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"has no section \[basic\]"),
        ("[basic]\nak = AK\n", r"the section \[basic\] of .* lacks ak or sk"),
        ("[basic]\nidp_id = x\nid_token_file = hunter22\n", "idp_id and id_token_file are not"),
        ("[basic]\nak = AK\nsk = a%hunter22\n", "write %% for it"),
        ("[basic]\nhunter22\n", "no file of sections"),
        ("sk = hunter22\n", "no file of sections"),
        ("[basic]\nak = AK\nsk = hunter22\nsk = hunter22\n", "no file of sections"),
        ("[basic]\nak = AK\nsk = hunter22 x\n", "sk of the section .* must hold printable ASCII"),
        ("[basic]\nak = AK\nsk = hunter22\u00e4\n", "sk of the section .* printable ASCII"),
        ("#" * MAX_SIZE + "\n" + TEXT, "has no section"),
        ("[basic]\nsk = hunter22" + " " * 100 + "\n", "has 100 blanks in a row"),
        ("[basic]\nak = AK\nsk = %(ak)s hunter22\n", "write %% for it"),
    ],
    ids=map(str, range(12)),
)
def test_mistakes(path: Path, text: str, words: str) -> None:
    """What is wrong with the file is said, and no line of it is quoted."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CredentialsError, match=words) as caught:
        ProfileKey(path, "basic", {})()

    assert "hunter22" not in "".join(traceback.format_exception(caught.value))


def test_escaped(path: Path) -> None:
    """A sign that the SDK wants to be there twice is there once in the key."""
    path.write_text("[basic]\nak = AK\nsk = a%%b\n")

    assert ProfileKey(path, "basic", {})() == AccessKey("AK", "a%b")


def test_bytes(path: Path) -> None:
    """A file that is no text is an error."""
    path.write_bytes(b"[basic]\nak = \xff\n")
    with pytest.raises(CredentialsError, match="no file of sections, keys and values in UTF-8"):
        ProfileKey(path, "basic", {})()


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, and no place to look for one, are errors that say so."""
    with pytest.raises(CredentialsError, match=r"cannot read .*none: No such file"):
        ProfileKey(tmp_path / "none", "basic", {})()
    with pytest.raises(CredentialsError, match="set `path`, HUAWEICLOUD_SDK_CREDENTIALS_FILE or"):
        ProfileKey(None, "basic", {})()


def test_changed_file(tmp_path: Path) -> None:
    """A file that changes is used at the next request, also after a refusal."""
    file = tmp_path / "credentials"
    file.write_text(f"[basic]\nak = {ACCESS_KEY}\nsk = wrong\n")
    section = {"type": "profile", "path": str(file)}
    with world(1) as here, exporter_with(here, Made(section, "", 0, {})) as exporter:
        exporter.fleet.refresh_and_wait(10)
        file.write_text(f"[basic]\nak = {ACCESS_KEY}\nsk = {SECRET_KEY}\n")
        ask(exporter, here)


def test_repr() -> None:
    """No representation shows the environment."""
    assert "hunter22" not in repr(ProfileKey(None, "basic", {"X": "hunter22"}, ("hunter22",)))
