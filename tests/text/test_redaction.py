"""Secrets are taken out of text in every spelling in which they come back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from dcs_task_exporter.text.redaction import REDACTED, Redactor
from tests.support.clouds import SECRET_KEY

ODD = "MIIx+a/b=='\"&<>%\\Q7f"


def in_form(text: str, form: str) -> str:
    """Return a text with each sign written in a form, from its number."""
    return "".join(char if char.isalnum() else form.format(ord(char)) for char in text)


SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: in_form(text, "%{:02x}"),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "partly percent": lambda text: quote(text, safe="/+="),
    "json": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json, only escapes": lambda text: in_form(text, "\\u{:04x}"),
    "hexadecimal escapes": lambda text: in_form(text, "\\x{:02X}"),
    "json twice": lambda text: json.dumps(json.dumps(text))[1:-1],
    "html, decimal": lambda text: in_form(text, "&#{:d};"),
    "html, hexadecimal": lambda text: in_form(text, "&#x{:X};"),
    "html": lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#39;"),
}


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=40),
    st.sampled_from(sorted(SPELLINGS)),
    st.text(max_size=20),
)
@example(ODD, "json twice", "")
def test_spellings_of_a_secret(secret: str, spelling: str, beside: str) -> None:
    """A secret is taken out of a text in each spelling that is known."""
    spelt = SPELLINGS[spelling](secret)
    redactor = Redactor.of([secret])
    assert spelt not in redactor.text(f"{beside} {spelt} {beside}").replace(REDACTED, "")
    assert redactor.may_be_in(spelt.encode())


@given(st.sampled_from(["utf-8", "utf-16", "utf-32"]), st.booleans(), st.integers(0, 4))
def test_a_secret_in_decoded_json(encoding: str, escaped: bool, place: int) -> None:  # noqa: FBT001
    """Decoded JSON holds no secret, however its bytes spelt it, as a key or as a value."""
    number = 1234567890123
    data = [{"a": [ODD]}, {ODD: None}, [[f"x{ODD}y"]], ODD, {"n": number}][place]
    text = json.dumps(data)
    if escaped:
        text = text.replace("Q7f", "\\u0051\\u0037\\u0066")
    redactor, body = Redactor.of([ODD, str(number)]), text.encode(encoding)
    assert redactor.may_be_in(body)
    told = json.dumps(redactor.json(json.loads(body)))
    assert REDACTED in told
    assert "Q7f" not in told
    assert str(number) not in told


def test_a_secret_in_escapes_alone() -> None:
    """A secret that JSON spells in escapes only, with no letter of it, is looked for."""
    spelt = "".join(f"\\u{ord(char):04x}" for char in SECRET_KEY)
    assert Redactor.of([SECRET_KEY]).may_be_in(spelt.encode())


def test_a_secret_inside_another() -> None:
    """Of two secrets of which one begins the other, the longer one leaves no rest."""
    assert Redactor.of(["abcdefgh", "abcdefgh-rest"]).text("abcdefgh-rest") == REDACTED


def test_the_shortest_secret() -> None:
    """A secret of three characters is not looked for: it would be in every other word."""
    assert Redactor.of(["key", "keys"]).text("monkey, keys") == f"monkey, {REDACTED}"


def test_base64_is_no_spelling_of_ours() -> None:
    """Nothing that is sent of a key is base64 of it: that spelling is not looked for."""
    spelt = base64.b64encode(SECRET_KEY.encode()).decode()
    assert Redactor.of([SECRET_KEY]).text(spelt) == spelt


def test_a_redactor_hides_its_secrets() -> None:
    """The repr of a redactor shows no secret."""
    assert "secret" not in repr(Redactor.of(["a-secret"]))
