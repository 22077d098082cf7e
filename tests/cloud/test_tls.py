"""The TLS context of all connections, and the daily word that it checks nothing."""

from __future__ import annotations

import ssl

import certifi
import pytest

from dcs_task_exporter.cloud.tls import UncheckedWarning, tls_context
from dcs_task_exporter.config.model import TlsConfig

UNCHECKED = TlsConfig(insecure_skip_verify=True)


def test_what_a_context_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates and host names are checked, from TLS 1.2 on; all authorities are trusted."""
    monkeypatch.setattr(certifi, "where", certifi.core.where)  # not the one of the other tests
    context = tls_context(TlsConfig())

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert context.verify_flags & ssl.VERIFY_X509_TRUSTED_FIRST
    assert context.cert_store_stats()["x509_ca"] > 10


def test_what_an_insecure_context_checks() -> None:
    """With `insecure_skip_verify` neither the certificate nor the name is checked."""
    context = tls_context(UNCHECKED)

    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


@pytest.mark.parametrize(
    ("tls", "told"), [(UNCHECKED, [1, 1, 1, 2, 2, 3]), (TlsConfig(), [0, 0, 0, 0, 0, 0])]
)
def test_a_word_each_day(tls: TlsConfig, told: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """That nothing is checked is said with the first request, and once a day from then on."""
    now, found = [500.0], []
    warning = UncheckedWarning("prod", tls, lambda: now[0])
    for seconds in (0.0, 0.0, 86_399.0, 1.0, 86_399.0, 1.0):
        now[0] += seconds
        warning.warn_if_due()
        found.append(len(caplog.records))

    assert found == told
    assert all(vars(line)["fields"] == {"project": "prod"} for line in caplog.records)
