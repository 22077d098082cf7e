"""The exporter, the simulated cloud, and a Prometheus where one is installed."""
