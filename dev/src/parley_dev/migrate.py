"""Migrates services' schemas, all in one process: imports take longer than migrations.

PARLEY_MIGRATE_<schema>=<URL of its owner> python -m parley_dev.migrate
"""

from __future__ import annotations

import os

from parley_kit.migrate import migrate

from parley_dev.config import WITH_SCHEMA


def main() -> None:
    """Bring the schemas named in the environment to their newest revision."""
    for service in WITH_SCHEMA:
        if url := os.environ.get(f"PARLEY_MIGRATE_{service.schema}"):
            print(f"migrating {service.name}", flush=True)
            migrate(package=service.package, url=url, schema=service.schema)


if __name__ == "__main__":
    main()
