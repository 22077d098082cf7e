"""The official SDK; a module of its own, because its imports weigh on the memory of a process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkdcs.v2 import DcsClient, ListBackgroundTaskRequest

from bench.cloud import BenchCloud
from bench.load import PROJECT
from bench.measuring import Sweep


def sdk_client(cloud: BenchCloud, threads: int) -> DcsClient:
    """Return the official SDK's client, with a connection for each thread.

    One client serves all threads, and trusts the certificate that all others trust.
    """
    config = HttpConfig.get_default_config()
    config.ssl_ca_cert = str(cloud.ca_file)
    config.pool_maxsize = threads
    builder = DcsClient.new_builder().with_http_config(config)
    builder = builder.with_credentials(BasicCredentials("BENCHAK", "BENCHSK", PROJECT))
    return builder.with_endpoints([cloud.url]).build()


def sdk_request(client: DcsClient, number: int) -> object:
    """List the tasks of one instance by the SDK."""
    request = ListBackgroundTaskRequest(instance_id=f"i{number}", limit=100, offset=0)
    answer: object = client.list_background_task(request)
    return answer


def sdk_sweep(client: DcsClient, instances: int, pool: ThreadPoolExecutor | None) -> Sweep:
    """Return a sweep of the SDK: one request for each instance, one by one without a pool."""

    def sweep() -> None:
        mapped = pool.map if pool else map
        list(mapped(lambda number: sdk_request(client, number), range(instances)))

    return sweep
