from collections.abc import Iterator
from pathlib import Path

import pytest
from parley_dev.testing import mesh_on_free_ports, temporary_home


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder


@pytest.fixture
def mesh(home):
    return mesh_on_free_ports(home)
