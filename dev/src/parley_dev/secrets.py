"""Secrets of one machine: made once, kept in files that only their owner can read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parley_dev.config import SECRET_HOLDERS, WITH_SCHEMA, Mesh


@dataclass(frozen=True)
class Passwords:
    """Passwords of the embedded Postgres' superuser and of every role of ours."""

    superuser: str
    roles: dict[str, str]


def ensure(mesh: Mesh) -> Passwords:
    """Make what is missing of the signing and sealing keys, the services' secrets and the database passwords; return the latter."""
    folder = mesh.secrets
    for part in (folder, folder / "services", folder / "database", mesh.signing_keys):
        part.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (older := folder / "signing-key.pem").exists():  # a home from before keys could be rotated
        older.rename(mesh.signing_keys / older.name)
    if not any(mesh.signing_keys.glob("*.pem")):
        write(mesh.signing_keys / "signing-key.pem", signing_key())
    _once(folder / "sealing-key", new)
    for holder in SECRET_HOLDERS:
        _once(folder / "services" / holder, new)
    roles = [f"{service.schema}_{part}" for service in WITH_SCHEMA for part in ("owner", "app")]
    passwords = {role: _once(folder / "database" / role, new) for role in roles}
    return Passwords(_once(folder / "database" / "superuser", new), passwords)


def new() -> str:
    """Return a secret of 256 bits that needs no quoting in a URL."""
    return secrets.token_urlsafe(32)


def signing_key() -> str:
    """Return a new P-256 private key as PEM, for ES256."""
    from joserfc.jwk import ECKey  # noqa: PLC0415 - once in the life of a home

    return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()


def write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    making.rename(path)


def _once(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        write(path, make())
    return path.read_text().strip()
