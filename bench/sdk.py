"""The official SDK, in a module of its own: what it imports weighs on no one else's memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkdcs.v2 import DcsClient, ListBackgroundTaskRequest

from bench.cloud import PROJECT, BenchCloud
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
    """Return a sweep of the SDK: one request for each instance, nothing counted."""

    def sweep() -> None:
        numbers = range(instances)
        if pool is None:
            for number in numbers:
                sdk_request(client, number)
        else:
            list(pool.map(lambda number: sdk_request(client, number), numbers))

    return sweep
