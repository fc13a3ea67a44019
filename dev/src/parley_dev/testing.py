"""For tests: a home that Postgres can reach, and ports that are free."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from parley_dev import postgres
from parley_dev.config import CannotRunError, Mesh
from parley_dev.ports import is_free

_ROW = 100
_FIRST, _LAST = 20000, 32000  # below the ports that the kernel hands out to clients


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """Yield an empty home, gone afterwards. Not pytest's tmp_path, which is closed to the user that Postgres runs as."""
    with tempfile.TemporaryDirectory(prefix="parley-", ignore_cleanup_errors=True) as folder:
        home = Path(folder).resolve()
        home.chmod(0o755)
        try:
            yield home
        finally:
            postgres.forget(home)


def mesh_on_free_ports(home: Path, **settings: object) -> Mesh:
    """Return a mesh in `home` on ports that are free now; `settings` are fields of Mesh."""
    for base in random.sample(range(_FIRST, _LAST, _ROW), 100):
        mesh = Mesh(home=home, base_port=base, edge_port=base + 80, internal_port=base + 81, **settings)  # type: ignore[arg-type] # fields by name
        if all(is_free(port, "127.0.0.1") for port in mesh.ports()):
            return mesh
    raise CannotRunError(f"No row of {_ROW} free ports was found between {_FIRST} and {_LAST}.")
