"""Which URL is asked through which proxy."""

from __future__ import annotations

import logging

import pytest
from requests.utils import select_proxy

from dcs_task_exporter.cloud.proxies import proxies_for
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options

DCS, IAM = "https://dcs.cn-north-4.example.com", "https://iam.cn-north-4.example.com:8443/v3"
PROXY, OTHER = "http://proxy.example.com:3128", "http://me:hunter2@other.example.com:3128"


def chosen(proxy_url: str | None = None) -> list[str | None]:
    """Return the proxies of the two URLs, and of a third that the project does not name."""
    proxies = proxies_for((DCS, IAM), proxy_url)
    urls = (f"{DCS}/v2/x", f"{IAM}/projects", "http://169.254.169.254/latest")
    return [select_proxy(url, dict(proxies)) for url in urls]


def test_without_a_proxy() -> None:
    """Where neither the file nor the environment names a proxy, there is none."""
    assert chosen() == [None, None, None]


def test_the_proxy_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the file is taken whatever the environment says, and only for the project."""
    monkeypatch.setenv("HTTPS_PROXY", OTHER)
    monkeypatch.setenv("NO_PROXY", "*")

    assert chosen(PROXY) == [PROXY, PROXY, None]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without one in the file, the proxy of the environment is taken for both URLs."""
    monkeypatch.setenv(name, PROXY)

    assert chosen() == [PROXY, PROXY, None]


def test_a_proxy_of_another_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for http is none for https."""
    monkeypatch.setenv("HTTP_PROXY", PROXY)

    assert chosen() == [None, None, None]


@pytest.mark.parametrize(
    ("no_proxy", "proxies"),
    [
        ("dcs.cn-north-4.example.com", [None, PROXY, None]),
        ("iam.cn-north-4.example.com", [PROXY, None, None]),
        ("example.com", [None, None, None]),
    ],
)
def test_hosts_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, proxies: list[str | None]
) -> None:
    """NO_PROXY takes the proxy from the hosts that it names, not from the other service."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert chosen() == proxies


def test_the_environments_proxy_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that nobody wrote into the file is said at the start, without its password."""
    monkeypatch.setenv("HTTPS_PROXY", OTHER)
    text = (
        f"projects: [{{name: prod, project_id: '{'0' * 32}', endpoint: '{DCS}', "
        f"iam_endpoint: '{IAM}', credentials: {{type: environment}}, instances: [{{id: i0}}]}}]\n"
    )
    with caplog.at_level(logging.INFO):
        Exporter(parse_config(text, "test", {}), Options(process_metrics=False)).stop()

    lines = [record for record in caplog.records if "proxy" in record.getMessage()]
    assert [record.fields["to"] for record in lines] == [  # type: ignore[attr-defined]
        DCS,
        "https://iam.cn-north-4.example.com",
    ]
    assert {record.fields["proxy"] for record in lines} == {"http://other.example.com:3128"}  # type: ignore[attr-defined]
