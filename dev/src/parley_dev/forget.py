"""Starting over."""

from __future__ import annotations

import shutil

from parley_dev import leftovers, postgres
from parley_dev.config import Mesh


def forget(mesh: Mesh) -> None:
    """Delete all data of a mesh that does not run."""
    with leftovers.only_mesh_of(mesh.home):
        postgres.forget(mesh.home)
        for name in ("secrets", "objects", "logs", "outbox"):
            shutil.rmtree(mesh.home / name, ignore_errors=True)
