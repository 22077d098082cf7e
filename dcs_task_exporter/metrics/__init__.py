"""From snapshots to the text that Prometheus reads."""

from prometheus_client import disable_created_metrics

# No dashboard or alert reads the `_created` series, one for each series of a counter.
disable_created_metrics()  # type: ignore[no-untyped-call]
