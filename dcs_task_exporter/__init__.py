"""Prometheus exporter for the background tasks of Huawei Cloud DCS (managed Redis)."""

from importlib.metadata import version

__version__ = version("dcs-task-exporter")
