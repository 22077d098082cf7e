"""The proxy of each URL of a project: the configured one, or that of the environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy


def proxies_for(urls: Iterable[str], proxy_url: str | None) -> Mapping[str, str]:
    """Return the proxies of these URLs and of no other, in the form that `requests` takes.

    `proxy_url` is the proxy of all of them, whatever the environment says. Without it, the
    environment decides for each of them: ``HTTPS_PROXY`` or ``HTTP_PROXY``, unless ``NO_PROXY`` has
    its host.
    """
    found = {}
    for url in urls:
        proxy = proxy_url or select_proxy(url, get_environ_proxies(url))
        if proxy:
            parts = urlsplit(url)
            found[f"{parts.scheme}://{parts.hostname}"] = proxy
    return found
