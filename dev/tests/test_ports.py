import os
import socket

import pytest
from parley_dev import leftovers, ports
from parley_dev.config import CannotRunError, Mesh


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_says_which_for_what_by_whom_and_what_moves_it(home, listener):
    mesh = Mesh(home=home, base_port=20000, edge_port=listener)
    with pytest.raises(CannotRunError) as refused:
        ports.check(mesh)
    text = str(refused.value)
    assert f"Port {listener}, for envoy (edge), is taken by" in text
    assert f"(pid {os.getpid()}, user " in text
    assert "PARLEY_EDGE_PORT moves it" in text


def test_a_taken_service_port_names_the_base_port(home, listener):
    with pytest.raises(CannotRunError, match=r"for billing, is taken by .*PARLEY_BASE_PORT moves it"):
        ports.check(Mesh(home=home, base_port=listener - 3, edge_port=20001, internal_port=20002))


def test_free_ports_pass(mesh):
    ports.check(mesh)


def test_a_second_mesh_of_the_same_home_is_refused(home):
    refused = pytest.raises(CannotRunError, match=rf"running already \(pid {os.getpid()}\)")
    with leftovers.only_mesh_of(home), refused, leftovers.only_mesh_of(home):
        pass
    with leftovers.only_mesh_of(home):
        pass  # free again
