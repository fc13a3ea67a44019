"""Whether the mesh's ports are free, and who has them."""

from __future__ import annotations

import contextlib
import socket

import psutil

from parley_dev.config import CannotRunError, Mesh


def check(mesh: Mesh) -> None:
    """Refuse to start while a port is taken: which one, for what, by whom, and which setting moves it."""
    taken = [
        port
        for port in mesh.ports()
        if not is_free(port, mesh.bind_address if port in mesh.public_ports else "127.0.0.1")
    ]
    if not taken:
        return
    holders = _holders()
    lines = []
    for port in taken:
        purpose, setting = mesh.ports()[port]
        lines.append(
            f"Port {port}, for {purpose}, is taken by {holders.get(port, 'a process of another user')}; {setting} moves it."
        )
    raise CannotRunError(
        "\n".join([*lines, "Stop the holder, or set another port, e.g. PARLEY_BASE_PORT=9300 make run."])
    )


def is_free(port: int, address: str) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is not in the way
        try:
            probe.bind((address, port))
        except PermissionError as error:
            raise CannotRunError(f"Port {port} needs rights that this user has not; choose one above 1023.") from error
        except OSError:
            return False
    return True


def _holders() -> dict[int, str]:
    """Describe who listens where, as far as this user may see it."""
    found: dict[int, str] = {}
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("inet"):
            if connection.status != psutil.CONN_LISTEN or connection.pid is None or not connection.laddr:
                continue
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())[:80]
                found[connection.laddr.port] = (
                    f"{process.name()} (pid {process.pid}, user {process.username()}: {command})"
                )
    return found
