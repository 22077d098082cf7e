"""Run the exporter with ``python -m dcs_task_exporter``."""

import sys

from dcs_task_exporter.cli import main

if __name__ == "__main__":
    sys.exit(main())
